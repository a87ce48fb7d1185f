//! The page that lists the routes says what the table says.

use marketprism_server::ROUTES;

#[test]
fn the_api_page_lists_every_route_of_the_table_and_no_other() {
    let page = include_str!("../../../../docs/api/README.md");
    let listed: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| GET ") || line.starts_with("| POST "))
        .collect();
    for route in ROUTES {
        let line = format!("| {} | `{}` | {} |", route.method, route.path, route.what);
        assert!(
            listed.contains(&line.as_str()),
            "docs/api/README.md lacks: {line}"
        );
    }
    assert_eq!(
        listed.len(),
        ROUTES.len(),
        "docs/api/README.md lists routes that do not exist"
    );
}
