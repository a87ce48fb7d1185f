//! The tools of others, with the credentials that they can send: promtool, Prometheus, curl.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;
use marketprism_access::{Access, Config as AccessConfig, Identity, NewToken};
use marketprism_model::{Clock as _, Role};
use marketprism_server::Config;
use marketprism_testkit::{ChildGuard, HttpServer, MachineClock, free_port, wait_for_async};

use crate::people::{PASSWORD, user};
use crate::rig::Rig;

/// A real process may be slow to start on a loaded machine; the wait ends as soon as it is there.
const DEADLINE: Duration = Duration::from_secs(60);

fn token(access: &Access, name: &str, role: Role) -> String {
    let new = NewToken {
        name: name.to_owned(),
        role,
        expires_at: None,
    };
    let made = access.create_token(&Identity::anybody(), new);
    made.expect("the name is free").1.expose().to_owned()
}

async fn run(program: &'static str, arguments: Vec<String>) -> Output {
    let running = tokio::task::spawn_blocking(move || Command::new(program).args(arguments).output());
    let output = running.await.expect("no panic");
    output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install prometheus curl"))
}

#[tokio::test]
async fn promtool_gets_in_by_basic_authentication_and_by_a_token_and_not_without() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "vera", Role::Viewer);
    let token = token(&access, "promtool", Role::Viewer);
    // promtool takes a name and a password from the address.
    let ask = async |credential: &str| {
        let server = format!("http://{credential}@{}/prometheus", rig.address).replace("//@", "//");
        let arguments = ["query", "instant", &server, "1 + 1"].map(str::to_owned);
        run("promtool", arguments.to_vec()).await
    };
    for credential in [
        format!("vera:{}", PASSWORD.replace(' ', "%20")),
        format!("promtool:{token}"),
    ] {
        let output = ask(&credential).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("scalar: 2 @["), "{credential}: {output:?}");
    }
    for (credential, words) in [
        ("", "credentials are needed"),
        ("vera:wrong%20password", "the credentials are not accepted"),
    ] {
        let output = ask(credential).await;
        assert!(!output.status.success(), "{credential:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(words), "{credential:?}: {told}");
    }
}

#[tokio::test]
async fn curl_logs_in_acts_and_logs_out() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    user(&access, "chen", Role::Operator);
    let base = format!("http://{}", rig.address);
    let jar = tempfile::NamedTempFile::new().expect("there is room for a file");
    let jar = jar.path().to_string_lossy().into_owned();
    let curl = async |arguments: &[&str]| {
        let fixed = ["-sS", "-o", "/dev/null", "-w", "%{http_code}"];
        let arguments = fixed.iter().chain(arguments).map(|word| (*word).to_owned());
        let output = run("curl", arguments.collect()).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let alerts = format!("{base}/api/v1/alerts");
    let credential = format!("chen:{PASSWORD}");
    assert_eq!(curl(&[&alerts]).await, "401");
    assert_eq!(curl(&["-u", &credential, &alerts]).await, "200");
    assert_eq!(
        curl(&["--anyauth", "-u", &credential, &alerts]).await,
        "200",
        "the challenge is understood"
    );
    assert_eq!(curl(&["-u", "chen:wrong password", &alerts]).await, "401");
    assert_eq!(
        curl(&[&format!("{base}/api/v1/stats/performance")]).await,
        "200",
        "as the guide asks"
    );
    assert_eq!(curl(&[&format!("{base}/health")]).await, "200");
    let form = format!("password={}", crate::reply::encoded(PASSWORD));
    let login = format!("{base}/login");
    let logged_in = curl(&[
        "-c",
        &jar,
        "-d",
        "username=chen",
        "-d",
        &form,
        "-d",
        "next=/graph",
        &login,
    ])
    .await;
    assert_eq!(logged_in, "303");
    assert_eq!(curl(&["-b", &jar, &alerts]).await, "200");
    assert_eq!(
        curl(&["-b", &jar, "-c", &jar, "-X", "POST", &format!("{base}/logout")]).await,
        "303"
    );
    assert_eq!(curl(&["-b", &jar, &alerts]).await, "401");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_prometheus_pushes_with_an_operators_token_and_not_with_a_viewers() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let exporter = HttpServer::start(Router::new().route("/metrics", route_get(async || "fake_total 5\n")));
    let target = |name: &str, role| {
        let token = token(&access, name, role);
        format!(
            "{{url: 'http://{}/api/v1/write', name: {name}, authorization: {{credentials: '{token}'}}, \
             write_relabel_configs: [{{target_label: pushed_by, replacement: {name}}}], \
             queue_config: {{batch_send_deadline: 1s}}}}",
            rig.address
        )
    };
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: fake, static_configs: [{{targets: ['{}']}}]}}]\n\
         remote_write: [{}, {}]\n",
        exporter.address(),
        target("watcher", Role::Viewer),
        target("pusher", Role::Operator),
    );
    let folder = tempfile::tempdir().expect("there is room for a folder");
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("the folder is writable");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut process = ChildGuard::spawn(
        Command::new("prometheus")
            .current_dir(folder.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}")),
    )
    .expect("prometheus is installed: apt-get install prometheus");
    process.wait_for_line(DEADLINE, "Server is ready to receive web requests");
    let pushed_by = |name: &str| {
        rig.rooms.clock.jump_to(MachineClock::default().now());
        let matcher = marketprism_model::Matcher::equal("pushed_by", name);
        let range = marketprism_model::TimeRange::new(
            marketprism_model::Timestamp::MIN,
            marketprism_model::Timestamp::MAX,
        );
        marketprism_model::SeriesSource::label_names(&*rig.rooms.store, &[matcher], range)
            .expect("memory answers")
            .len()
    };
    wait_for_async(DEADLINE, || pushed_by("pusher") > 0).await;
    // By then the other one has been refused; Prometheus drops what is refused so and says it in its log.
    process.wait_for_line(DEADLINE, "this needs the role operator");
    assert_eq!(pushed_by("watcher"), 0);
}
