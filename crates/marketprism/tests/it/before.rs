//! What is asked of rules before they page: `check rules`, `test rules`, `backtest`, over a running program and over the
//! data of a stopped one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use marketprism_model::Clock as _;
use marketprism_testkit::MachineClock;
use serde_json::{Value, json};

use crate::program::Program;
use crate::remote_write;

const RULES: &str = "groups:\n- name: room\n  interval: 1m\n  rules:\n  - {alert: Hot, expr: temperature > 80, for: 2m, labels: {severity: critical}}\n  - {alert: Gone, expr: 'humidity < 5'}\n";

fn run(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(arguments)
        .current_dir(home)
        .env_remove("DATABASE_URL")
        .env("LANG", "zh_CN.UTF-8")
        .env_remove("LC_ALL")
        .output()
        .expect("run the program")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn unit_tests_of_rules_end_with_promtools_codes_and_show_what_differs() {
    let home = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(home.path().join(name), text).expect("write");
    write("rules.yml", RULES);
    let test = |value: u32| {
        format!(
            "rule_files: [rules.yml]\ntests:\n- name: hot & cold\n  input_series: [{{series: 'temperature{{room=\"a\"}}', values: '90x9'}}]\n  \
             alert_rule_test: [{{eval_time: 5m, alertname: Hot, exp_alerts: [{{exp_labels: {{room: a, severity: critical}}}}]}}]\n  \
             promql_expr_test: [{{eval_time: 1m, expr: temperature, exp_samples: [{{labels: 'temperature{{room=\"a\"}}', value: {value}}}]}}]\n"
        )
    };
    write("good.yml", &test(90));
    write("bad.yml", &test(91));
    let good = run(home.path(), &["test", "rules", "good.yml"]);
    assert_eq!(
        (good.status.code(), out(&good).as_str()),
        (Some(0), "good.yml: SUCCESS, 1 test\n")
    );
    let bad = run(
        home.path(),
        &["test", "rules", "good.yml", "bad.yml", "--junit", "junit.xml"],
    );
    assert_eq!(bad.status.code(), Some(1));
    for words in [
        "bad.yml: FAILED, 1 of 1 tests",
        "hot & cold (line 3):",
        "expression \"temperature\" at 1m",
        "- temperature{room=\"a\"} 91",
        "+ temperature{room=\"a\"} 90",
    ] {
        assert!(out(&bad).contains(words), "{words:?} is missing in {}", out(&bad));
    }
    let junit = fs::read_to_string(home.path().join("junit.xml")).expect("it was written");
    assert!(
        junit.contains("<testcase name=\"hot &amp; cold\">") && junit.contains("failures=\"1\""),
        "{junit}"
    );
    let chosen = run(home.path(), &["test", "rules", "bad.yml", "--run", "^other$"]);
    assert_eq!(out(&chosen), "bad.yml: SUCCESS, 0 tests\n");
    let missing = run(home.path(), &["test", "rules", "missing.yml"]);
    assert_eq!(missing.status.code(), Some(1), "{}", out(&missing));
}

#[test]
fn warnings_about_rules_are_told_with_place_and_advice_and_fail_only_when_asked_to() {
    let home = tempfile::tempdir().expect("a folder");
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: count(up) == 0\n";
    fs::write(home.path().join("rules.yml"), text).expect("write");
    let check = |more: &[&str]| run(home.path(), &[&["check", "rules", "rules.yml"], more].concat());
    let found = check(&[]);
    assert_eq!(found.status.code(), Some(0));
    let told = out(&found);
    assert!(
        told.starts_with(
            "rules.yml:5:11: 警告：规则 \"A\"：没有序列时 count 没有结果，而不是 0 [never-holds]\n"
        ),
        "{told}"
    );
    assert!(
        told.contains("改正比较；判断缺失请用 `absent(…)`")
            && told.ends_with("1 个组，1 条规则，1 个警告，3 个提示（加 --info 显示）\n"),
        "{told}"
    );
    let english = out(&check(&["--language", "en"]));
    assert!(
        english.starts_with(
            "rules.yml:5:11: warning: rule \"A\": count of nothing is nothing, and never 0 [never-holds]\n"
        ),
        "{english}"
    );
    assert!(
        english.contains("absent(…)")
            && english.ends_with("1 rule in 1 group, 1 warning, 3 remarks (--info shows them)\n"),
        "{english}"
    );
    assert_eq!(check(&["--strict"]).status.code(), Some(1));
    assert_eq!(
        check(&["--strict", "--allow", "never-holds"]).status.code(),
        Some(0)
    );
    let wrong = check(&["--allow", "never-hold"]);
    assert!(
        out(&wrong).contains("did you mean never-holds?") && !wrong.status.success(),
        "{}",
        out(&wrong)
    );
    let document: Value = serde_json::from_slice(&check(&["--json"]).stdout).expect("it is JSON");
    assert_eq!(document["findings"][0]["lint"], "no-runbook");
    assert_eq!(document["findings"].as_array().map(Vec::len), Some(4));
    let never_holds = &document["findings"][3];
    assert_eq!(never_holds["message"], "count of nothing is nothing, and never 0");
    assert_eq!(
        never_holds["advice"],
        "mend the comparison; for absence use `absent(…)`"
    );
}

#[test]
fn a_backtest_over_a_running_program_and_over_its_data_comes_to_the_same() {
    let mut program = Program::start(
        "global: {scrape_interval: 1m}\nhost: {enabled: false}\nalert_manager: {default_rules: false}\n\
         security: {access_control: {enabled: false}}\n",
    );
    let now = MachineClock::default().now().millis() / 60_000 * 60_000;
    let minute = |back: i64| now - back * 60_000;
    let samples: Vec<(i64, f64)> = (0..=40)
        .rev()
        .map(|back| (minute(back), if (11..=20).contains(&back) { 90.0 } else { 40.0 }))
        .collect();
    let body = remote_write::encode(vec![remote_write::series(
        &[("__name__", "temperature"), ("room", "server")],
        &samples,
    )]);
    let (status, text) = program.post_bytes("/api/v1/write", &remote_write::HEADERS, &body);
    assert!(status < 300, "{status} {text}");
    let home = program.home().to_owned();
    fs::write(home.join("rules.yml"), RULES).expect("write");
    let token = run(
        &home,
        &[
            "token",
            "create",
            "ci",
            "--role",
            "operator",
            "--config",
            "config.yaml",
            "--data-dir",
            "data",
        ],
    );
    fs::write(home.join("token"), &token.stdout).expect("write");
    let seconds = |back| (minute(back) / 1000).to_string();
    let (start, end) = (seconds(40), seconds(0));
    let range = ["backtest", "rules.yml", "--start", &start, "--end", &end];
    let url = program.url();
    let there = [&range[..], &["--url", &url, "--token", "token"]].concat();
    let lints = ["check", "rules", "rules.yml", "--url", &url, "--token", "token"];
    let found = out(&run(&home, &lints));
    assert!(
        found.contains("已存数据中没有 humidity 选中的序列 [absent-series]"),
        "{found}"
    );
    assert!(!found.contains("temperature 选中"), "{found}");

    let told = run(&home, &there);
    assert!(told.status.success(), "{}", out(&told));
    let words = out(&told);
    assert!(words.contains("Hot：触发 1 次，累计 8m，抖动 0 次"), "{words}");
    assert!(
        words.contains("Gone：触发 0 次") && words.contains("通知 2 条"),
        "{words}"
    );
    let english = out(&run(
        &home,
        &[&there[..], &["--language", "en", "--rule", "Hot"]].concat(),
    ));
    assert!(
        english.contains("Hot: fired 1 time for 8m in all, 0 flaps") && !english.contains("Gone"),
        "{english}"
    );
    let as_json = |arguments: &[&str]| -> Value {
        let output = run(&home, &[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(&output)))
    };
    let asked = as_json(&[&there[..], &["--svg", "there.svg"]].concat());
    let busy = run(
        &home,
        &[&range[..], &["--config", "config.yaml", "--data-dir", "data"]].concat(),
    );
    assert!(
        out(&busy).contains("--url") && !busy.status.success(),
        "{}",
        out(&busy)
    );

    program.stop();
    let here = [
        &range[..],
        &[
            "--config",
            "config.yaml",
            "--data-dir",
            "data",
            "--svg",
            "here.svg",
        ],
    ]
    .concat();
    let mut read = as_json(&here);
    // The rules have another file's name here.
    for rule in read["rules"].as_array_mut().into_iter().flatten() {
        rule["file"] = json!("request");
    }
    let alerts = |document: &Value| -> Vec<Value> {
        let alerts = &document["rules"][0]["alerts"][0];
        vec![
            alerts["labels"].clone(),
            alerts["fired"].clone(),
            alerts["flaps"].clone(),
        ]
    };
    assert_eq!(alerts(&asked), alerts(&read));
    assert_eq!(alerts(&read)[1], json!(1));
    for file in ["there.svg", "here.svg"] {
        let picture = fs::read_to_string(home.join(file)).expect("it was drawn");
        assert!(picture.contains("room=server"), "{picture}");
    }
    let found = out(&run(
        &home,
        &[
            "check",
            "rules",
            "rules.yml",
            "--data-dir",
            "data",
            "--config",
            "config.yaml",
        ],
    ));
    assert!(found.contains("没有 humidity 选中的序列"), "{found}");
    let by_ticks = as_json(&[&here[..], &["--method", "ticks", "--compare", "rules.yml"]].concat());
    assert_eq!(by_ticks["method"], "ticks");
    assert_eq!(by_ticks["present"]["rules"], by_ticks["rules"]);
}
