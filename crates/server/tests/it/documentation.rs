//! The page that lists the routes says what the table says, roles included.

use marketprism_server::ROUTES;

#[test]
fn the_api_page_lists_every_route_of_the_table_and_no_other() {
    let page = include_str!("../../../../docs/api/README.md");
    let listed: Vec<&str> = page
        .lines()
        .filter(|line| {
            ["| GET ", "| POST ", "| PATCH ", "| PUT ", "| DELETE "]
                .iter()
                .any(|method| line.starts_with(method))
        })
        .collect();
    for route in ROUTES {
        let needs = route.needs.word();
        let line = format!(
            "| {} | `{}` | {needs} | {} |",
            route.method, route.path, route.what
        );
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
