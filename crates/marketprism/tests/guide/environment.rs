//! The guide's table of environment variables, row by row.

use std::process::Command;

use marketprism_testkit::{ChildGuard, is_true_within};
use serde_json::Value;

use crate::guide::{quoted, rows};
use crate::program::PATIENCE;
use crate::settings::{Settings, VARIABLES};
use crate::web;

/// The program in a folder of its own, with these variables and no others.
struct Service {
    child: ChildGuard,
    _home: tempfile::TempDir,
}

impl Service {
    fn start<'a>(settings: &Settings, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(home.path().join("config")).expect("make the folder");
        std::fs::write(home.path().join("config/config.yaml"), &settings.0).expect("write the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_marketprism"));
        command
            .args([
                "serve",
                "--config",
                "config/config.yaml",
                "--listen",
                "127.0.0.1:0",
            ])
            .current_dir(home.path())
            .env_clear()
            .envs(variables);
        let child = ChildGuard::spawn(&mut command).expect("start the program");
        Service { child, _home: home }
    }
}

/// Checks that the start is refused without a variable, and that what is said names all it takes to mend it.
fn check_required(name: &str) {
    let settings = Settings::of_the_guide();
    let others = VARIABLES.into_iter().filter(|(other, _)| *other != name);
    let mut service = Service::start(&settings, others);
    let said = service.child.wait_for_line(PATIENCE, name);
    assert!(!service.child.wait_for_exit(PATIENCE).success(), "{said}");
    let line = settings.line_of(&format!("${{{name}}}"));
    let text = settings.0.lines().nth(line - 1).expect("found above");
    let key = text.trim().split(':').next().expect("a key");
    assert!(said.contains(&format!("config/config.yaml:{line}:")), "{said}");
    assert!(said.contains(&format!(".{key}: ")), "no {key} in {said}");
    assert_eq!(service.child.output(), said, "nothing else is wrong");
}

/// Starts the program with these variables besides the necessary ones; gives its log until a level is seen after it is
/// ready.
fn log(settings: &Settings, variables: &[(&str, &str)], level: &str) -> String {
    let all = VARIABLES.into_iter().chain(variables.iter().copied());
    let mut service = Service::start(settings, all);
    let ready = service.child.wait_for_line(PATIENCE, "\"message\":\"ready\"");
    let ready: Value = serde_json::from_str(&ready).expect("a line of JSON");
    let address = ready["address"].as_str().expect("where it listens");
    // Requests are told at DEBUG.
    assert_eq!(web::get(&format!("http://{address}/health"), &[]).0, 200);
    let is_there = is_true_within(PATIENCE, || levels(&service.child.output()).contains(&level));
    assert!(is_there, "no {level} in\n{}", service.child.output());
    service.child.output()
}

fn levels(log: &str) -> Vec<&str> {
    let mut levels: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split("\"level\":\"").nth(1)?.split('"').next())
        .collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

#[test]
fn each_variable_of_the_table_is_as_necessary_as_it_says() {
    // The level of the file is taken away, so that the default of the table shows.
    let settings = Settings::of_the_guide().replace("  level: \"INFO\"\n", "");
    let mut known = 0;
    for row in rows("配置说明 / 环境变量") {
        let [name, _, required, default] = &row[..] else {
            panic!("four cells: {row:?}");
        };
        match (quoted(name), &**required, &**default) {
            ("SLACK_WEBHOOK_URL", "否", "-") => {
                let log = log(&settings, &[], "WARN");
                let line = settings.line_of("slack:");
                let warned: Vec<&str> = log
                    .lines()
                    .filter(|line| line.contains("channels.slack"))
                    .collect();
                assert_eq!(warned.len(), 1, "{log}");
                assert!(warned[0].contains("\"level\":\"WARN\""), "{log}");
                assert!(warned[0].contains("is off"), "{log}");
                let places = [line, settings.line_of("webhook_url:")];
                assert!(
                    places
                        .iter()
                        .any(|line| warned[0].contains(&format!(".yaml:{line}:"))),
                    "{log}"
                );
            }
            ("LOG_LEVEL", "否", default) => {
                assert_eq!(default, "INFO");
                let usual = log(&settings, &[], default);
                assert!(!levels(&usual).contains(&"DEBUG"), "{usual}");
                // The file's level gives way as well.
                for settings in [&settings, &Settings::of_the_guide()] {
                    log(settings, &[("LOG_LEVEL", "DEBUG")], "DEBUG");
                }
            }
            (name, "是", "-") => check_required(name),
            other => panic!("the tests know no such row: {other:?}"),
        }
        known += 1;
    }
    assert_eq!(known, 5);
}
