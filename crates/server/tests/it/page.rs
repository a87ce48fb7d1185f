//! The pages: both languages, every section empty and full, everything escaped.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use marketprism_model::Level;
use marketprism_server::Config;

use crate::reply::{get, send};
use crate::rig::{Rig, Rooms, groups, labels};

#[tokio::test]
async fn an_empty_house_says_so_in_each_section_and_each_language() {
    let rig = Rig::start().await;
    let check = async |query: &str, accept: &str, expected: &[&str]| {
        let request = Request::get(format!("/{query}")).header("accept-language", accept);
        let page = send(rig.address, request, "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        for text in expected {
            assert!(page.text().contains(text), "{text:?} is not on the page");
        }
    };
    let english = [
        "<html lang=\"en\">",
        "All quiet",
        "Nothing fires.",
        "Nothing has been sent yet.",
        "No target is configured.",
    ];
    let chinese = [
        "<html lang=\"zh-CN\">",
        "一切正常",
        "当前没有告警。",
        "还没有发送过通知。",
        "没有配置采集目标。",
    ];
    check("", "en-US,en;q=0.9", &english).await;
    check("", "zh-CN,zh;q=0.9,en;q=0.8", &chinese).await;
    check("?lang=zh", "en", &chinese).await;
}

#[tokio::test]
async fn the_worst_alert_stands_first_and_leads_to_its_story() {
    let rig = Rig::start().await;
    let now = Duration::ZERO;
    let critical = rig
        .rooms
        .raise("HostDown", Level::Critical, now, &[("instance", "db1")], 0.0);
    rig.rooms.clock.advance(Duration::from_secs(720));
    rig.rooms
        .raise("DiskFull", Level::Medium, now, &[("instance", "web1")], 91.5);
    rig.rooms.flush();
    let page = get(rig.address, "/").await;
    let page = page.text();
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text:?} is not on the page"))
    };
    assert!(
        place(">HostDown</a>") < place(">DiskFull</a>"),
        "the newer one stands first"
    );
    place("12 min");
    place("waiting");
    place(&format!("href=\"/alerts/{critical}\""));
    let story = get(rig.address, &format!("/alerts/{critical}?lang=zh")).await;
    for text in ["开始告警", "处理手册", "https://runbooks.example/x", "lang=zh-CN"] {
        assert!(story.text().contains(text), "{text:?} is not on the page");
    }
    let gone = get(rig.address, "/alerts/0190163d-8694-739b-aea5-966c26f8ad91").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(gone.text().contains("There is no such alert"));
}

#[tokio::test]
async fn a_sign_of_life_is_shown_but_is_no_trouble() {
    let rig = Rig::start().await;
    let pairs = [("severity", "none")];
    rig.rooms
        .raise("Watchdog", Level::Low, Duration::ZERO, &pairs, 1.0);
    let quiet = get(rig.address, "/").await;
    assert!(quiet.text().contains("All quiet") && quiet.text().contains(">Watchdog</a>"));
    rig.rooms.clock.advance(Duration::from_secs(60));
    rig.rooms.raise("Slow", Level::Low, Duration::ZERO, &[], 1.0);
    rig.rooms.raise("Alive", Level::Low, Duration::ZERO, &pairs, 1.0);
    let page = get(rig.address, "/").await;
    assert!(page.text().contains("<h1>1 firing</h1>"), "{}", page.text());
    let place = |text: &str| page.text().find(text).expect(text);
    assert!(place(">Slow</a>") < place(">Alive</a>") && place(">Alive</a>") < place(">Watchdog</a>"));
}

#[tokio::test]
async fn what_targets_and_rules_say_is_never_markup() {
    let rig = Rig::start().await;
    let evil = "<script>alert(1)</script>\" onload='x";
    let id = rig
        .rooms
        .raise(evil, Level::High, Duration::ZERO, &[("instance", evil)], 1.0);
    rig.rooms.flush();
    rig.rooms
        .append(&labels(&[("__name__", "m"), ("a", evil)]), &[(10, 1.0)]);
    let query = crate::reply::encoded(&format!("m{{b!=\"{}\"}}", evil.replace('"', "\\\"")));
    for path in [
        "/".to_owned(),
        format!("/alerts/{id}"),
        format!("/graph?g0.expr={query}"),
        format!("/graph?g0.expr={}", crate::reply::encoded(evil)),
    ] {
        let page = get(rig.address, &path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text().contains("&lt;script&gt;"), "{path} does not show it");
        assert!(!page.text().contains("<script"), "{path}");
        assert!(!page.text().contains("\" onload="), "{path}");
    }
}

#[tokio::test]
async fn the_expression_page_shows_results_faults_and_nothing() {
    let rig = Rig::start().await;
    rig.rooms
        .append(&labels(&[("__name__", "m"), ("a", "1")]), &[(30, 1.0), (10, 2.5)]);
    let check = async |expr: &str, expected: &str| {
        for at in ["/graph", "/prometheus/graph"] {
            let page = get(
                rig.address,
                &format!("{at}?g0.expr={}", crate::reply::encoded(expr)),
            )
            .await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(
                page.text().contains(expected),
                "{expr}: {expected:?} is not on {}",
                page.text()
            );
        }
    };
    check("m", "m{a=&quot;1&quot;}").await;
    check("m * 2", ">5<").await;
    check("m[1m]", "2.5 @ 2026-08-01 17:29:50").await;
    check("nothing", "No result.").await;
    check("m{", "parse error").await;
    check("", "Evaluate").await;
}

#[tokio::test]
async fn figures_targets_and_groups_are_told_and_what_is_troubled_stands_first() {
    let now = crate::rig::START;
    let mut rooms = Rooms::new(now);
    rooms.rules = Arc::new(groups(8, "many-to-many matching not allowed"));
    let rig = Rig::start_with(Config::default(), rooms).await;
    let page = get(rig.address, "/").await;
    let page = page.text();
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text:?} is not on {page}"))
    };
    assert!(place("many-to-many matching not allowed") < place("<details>"));
    assert!(place("<summary>7 ok</summary>") < place("group 3"));
    place("<dt>series in memory</dt><dd class=\"number\">12</dd>");
    place("<dt>write-ahead log</dt><dd class=\"number\">4.0 KiB</dd>");
    place("<dt>oldest sample</dt><dd class=\"number\">2026-08-01 17:30:00</dd>");
    place("<dt>running for</dt><dd class=\"number\">2 h 5 min</dd>");
    assert!(!page.contains("last fault of the log"), "there is none");
    let rules = get(rig.address, "/api/v1/rules").await.json();
    assert_eq!(rules["items"].as_array().map(Vec::len), Some(8));
    assert_eq!(
        rules["items"][7]["rules"][0]["last_error"],
        "many-to-many matching not allowed"
    );
    assert_eq!(rules["items"][0]["interval_s"], 30.0);
    let levels = &rules["items"][0]["rules"][0]["levels"];
    assert_eq!(
        levels[0],
        serde_json::json!({
            "level": "critical", "when": "> 95", "recover": "< 90", "for_s": 120.0, "keep_firing_for_s": 0.0,
        })
    );
}

#[tokio::test]
async fn pages_compress_and_their_files_are_served() {
    let rig = Rig::start().await;
    let request = Request::get("/").header("accept-encoding", "gzip");
    let page = send(rig.address, request, "").await;
    assert_eq!(page.header("content-encoding"), "gzip");
    let plain = get(rig.address, "/").await;
    let style = plain
        .text()
        .split('"')
        .find(|part| part.starts_with("/assets/style.css"));
    let sheet = get(rig.address, style.expect("the page names its sheet")).await;
    assert_eq!(
        (sheet.status, sheet.header("content-type")),
        (StatusCode::OK, "text/css; charset=utf-8")
    );
    assert_eq!(
        get(rig.address, "/assets/icon.svg").await.header("content-type"),
        "image/svg+xml"
    );
    assert_eq!(
        get(rig.address, "/assets/other.js").await.status,
        StatusCode::NOT_FOUND
    );
}
