//! What a scrape configuration may say, and what its errors say.

use super::*;

fn file(yaml: &str) -> Result<Vec<PoolConfig>, String> {
    let file: ScrapeFile = parse_yaml(yaml).map_err(|error| error.to_string())?;
    file.validate().map_err(|error| error.to_string())
}

#[track_caller]
fn refuse(yaml: &str, words: &str) {
    let error = file(yaml).expect_err(yaml);
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_job_takes_what_global_says_and_may_say_otherwise() {
    let yaml = "
global: {scrape_interval: 15s, scrape_timeout: 5s, sample_limit: 9, external_labels: {dc: x}, body_size_limit: 1MB}
scrape_configs:
  - job_name: plain
  - job_name: own
    scrape_interval: 3s
    sample_limit: 0
    body_size_limit: 2KB
    scheme: https
    metrics_path: /m
    honor_labels: true
    honor_timestamps: false
    scrape_protocols: [PrometheusText0.0.4]
    fallback_scrape_protocol: PrometheusText0.0.4
";
    let pools = file(yaml).expect("valid");
    let plain = &pools[0];
    assert_eq!(
        (
            plain.interval.as_secs(),
            plain.timeout.as_secs(),
            plain.sample_limit
        ),
        (15, 5, 9)
    );
    assert_eq!(
        (
            plain.body_bytes_max,
            plain.scheme.as_str(),
            plain.metrics_path.as_str()
        ),
        (1 << 20, "http", "/metrics")
    );
    assert_eq!(plain.protocols, ScrapeProtocol::DEFAULT);
    assert!(plain.honor_timestamps && !plain.honor_labels && plain.http.follow_redirects);
    let own = &pools[1];
    assert_eq!(
        (own.interval.as_secs(), own.timeout.as_secs(), own.sample_limit),
        (3, 3, 0)
    );
    assert_eq!(
        (own.body_bytes_max, own.scheme.as_str(), own.metrics_path.as_str()),
        (2048, "https", "/m")
    );
    assert!(!own.honor_timestamps && own.honor_labels);
}

#[test]
fn native_histograms_are_opted_in_for_all_jobs_or_one() {
    let yaml = "
global: {always_scrape_classic_histograms: true, scrape_native_histograms: true}
scrape_configs:
  - job_name: all
  - job_name: text
    scrape_native_histograms: false
    convert_classic_histograms_to_nhcb: true
  - job_name: own
    scrape_protocols: [PrometheusText0.0.4, PrometheusProto]
";
    let pools = file(yaml).expect("valid");
    let told = |at: usize| {
        let rules = pools[at].histograms;
        (rules.takes_native, rules.keeps_classic, rules.converts_classic)
    };
    assert_eq!(
        [told(0), told(1), told(2)],
        [(true, true, false), (false, true, true), (true, true, false)]
    );
    assert_eq!(pools[0].protocols, ScrapeProtocol::DEFAULT_WITH_NATIVE);
    assert_eq!(pools[1].protocols, ScrapeProtocol::DEFAULT);
    assert_eq!(pools[2].protocols[1], ScrapeProtocol::PrometheusProto);
}

#[test]
fn keys_without_effect_are_accepted_and_named() {
    let yaml = "
global:
  query_log_file: /x
scrape_configs:
  - job_name: k8s
    kubernetes_sd_configs:
      - role: pod
        namespaces: {names: [a]}
    proxy_url: http://p
    tls_config: {min_version: TLS12}
    static_configs: [{targets: ['a:1']}]
";
    let file: ScrapeFile = parse_yaml(yaml).expect("accepted");
    file.validate().expect("valid");
    assert_eq!(
        file.ignored(),
        [
            "global.query_log_file",
            "scrape_configs.k8s.kubernetes_sd_configs",
            "scrape_configs.k8s.proxy_url",
            "scrape_configs.k8s.tls_config.min_version",
        ]
    );
}

#[test]
fn unknown_keys_name_their_line_and_the_nearest_key() {
    let yaml = "scrape_configs:\n  - job_name: a\n    scrape_intervall: 5s\n";
    let error = parse_yaml::<ScrapeFile>(yaml).expect_err("misspelt");
    let ConfigError::Syntax { line, reason, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (line, reason.as_str()),
        (
            3,
            "unknown key \"scrape_intervall\"; did you mean \"scrape_interval\"?"
        )
    );
}

#[test]
fn contradictions_are_refused_with_their_place() {
    let job = |rest: &str| format!("scrape_configs:\n  - job_name: a\n    {rest}\n");
    refuse(
        &job("scrape_timeout: 2m"),
        "scrape_configs.a.scrape_timeout: 2m is longer than the scrape interval of 1m",
    );
    refuse(
        &job("scrape_interval: 10ms"),
        "shorter than the least interval of 100ms",
    );
    refuse(&job("scheme: ftp"), "\"ftp\" is neither http nor https");
    refuse(
        &job("file_sd_configs: [{files: [a.txt]}]"),
        "does not end in .json, .yml or .yaml",
    );
    refuse(
        &job("file_sd_configs: [{files: ['x*/a.yml']}]"),
        "has * before the last part",
    );
    refuse(&job("scrape_protocols: []"), "names no protocol");
    refuse(
        &job("scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]"),
        "names a protocol twice",
    );
    refuse(&job("body_size_limit: 10"), "not a size");
    refuse(
        &job("tls_config: {cert_file: x}"),
        "cert_file and key_file belong together",
    );
    refuse(
        &job("basic_auth: {password: a, password_file: b}"),
        "at most one of password and password_file",
    );
    refuse(&job("authorization: {type: basic}"), "for Basic use basic_auth");
    refuse(
        &job("basic_auth: {username: a}\n    bearer_token: b"),
        "at most one of basic_auth and authorization",
    );
    refuse(
        "scrape_configs: [{job_name: a}, {job_name: a}]",
        "job_name \"a\" stands there twice",
    );
    refuse(
        "scrape_configs: [{job_name: a, static_configs: [{targets: ['http://u:hunter2@h:1/']}]}]",
        "scrape_configs.a.static_configs: \"http://h:1/\" is not a valid address",
    );
    refuse("scrape_configs: [{job_name: ''}]", "job_name must not be empty");
    refuse("scrape_configs: [{scheme: http}]", "job_name");
    refuse(
        "global: {scrape_interval: 5s, scrape_timeout: 6s}",
        "global.scrape_timeout",
    );
    refuse(
        "scrape_configs: [{job_name: a, relabel_configs: [{action: keep, regex: '['}]}]",
        "bad regular expression",
    );
}

#[test]
fn secrets_are_never_shown() {
    let yaml = "
scrape_configs:
  - job_name: a
    basic_auth: {username: u, password: hunter2}
  - job_name: b
    authorization: {credentials: hunter2}
  - job_name: c
    bearer_token: hunter2
    http_headers: {X-Key: {secrets: [hunter2]}}
";
    let file: ScrapeFile = parse_yaml(yaml).expect("valid");
    let pools = file.validate().expect("valid");
    assert_eq!(
        pools[0]
            .http
            .basic_auth
            .as_ref()
            .and_then(|b| b.password.as_ref())
            .map(Secret::expose),
        Some("hunter2")
    );
    assert!(!format!("{file:?}{pools:?}").contains("hunter2"));
    assert_eq!(
        serde_json::to_string(&Secret::new("hunter2")).expect("a string"),
        "\"***\""
    );
}
