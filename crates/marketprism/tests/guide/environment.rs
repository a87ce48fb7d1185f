//! The guide's table of environment variables, row by row.

use std::process::{Command, Output, Stdio};

use marketprism_testkit::is_true_within;

use crate::guide::{quoted, rows};
use crate::program::{PATIENCE, Program};
use crate::settings::{Settings, VARIABLES};

/// Runs the program without one of its variables, until it ends by itself.
fn refused(settings: &Settings, missing: &str) -> Output {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(home.path().join("config")).expect("make the folder");
    std::fs::write(home.path().join("config/config.yaml"), &settings.0).expect("write the configuration");
    let mut child = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args([
            "serve",
            "--config",
            "config/config.yaml",
            "--listen",
            "127.0.0.1:0",
        ])
        .current_dir(home.path())
        .env_clear()
        .envs(VARIABLES.into_iter().filter(|(name, _)| *name != missing))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let has_ended = is_true_within(PATIENCE, || {
        child.try_wait().expect("ask for the child's state").is_some()
    });
    if !has_ended {
        child.kill().expect("end the program");
    }
    assert!(has_ended, "it runs without {missing}");
    child.wait_with_output().expect("it has ended")
}

/// Checks that the start is refused without a variable, and that what is said names all it takes to mend it.
fn check_required(name: &str) {
    let settings = Settings::of_the_guide();
    let output = refused(&settings, name);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{said}");
    let line = settings.line_of(&format!("${{{name}}}"));
    let text = settings.0.lines().nth(line - 1).expect("found above");
    let key = text.trim().split(':').next().expect("a key");
    assert!(said.contains(&format!("config/config.yaml:{line}:")), "{said}");
    assert!(said.contains(name), "{said}");
    assert!(said.contains(&format!(".{key}: ")), "no {key} in {said}");
    assert_eq!(said.lines().count(), 1, "nothing else is wrong: {said}");
}

/// Starts the program with these variables besides, and gives its log.
fn log(settings: &Settings, variables: &[(&str, &str)]) -> String {
    let mut program = Program::prepare(&settings.0);
    for (name, value) in VARIABLES.iter().chain(variables) {
        program.set_environment(name, value);
    }
    program.launch(&[]);
    program.wait_until_ready();
    assert!(program.stop().success());
    program.log()
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
                let log = log(&settings, &[]);
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
                let usual = log(&settings, &[]);
                assert_eq!(levels(&usual), ["INFO", "WARN"], "{usual}");
                assert_eq!(default, "INFO");
                let more = log(&settings, &[("LOG_LEVEL", "DEBUG")]);
                assert!(levels(&more).contains(&"DEBUG"), "{more}");
                // The file's level gives way as well.
                let told = log(&Settings::of_the_guide(), &[("LOG_LEVEL", "DEBUG")]);
                assert!(levels(&told).contains(&"DEBUG"), "{told}");
            }
            (name, "是", "-") => check_required(name),
            other => panic!("the tests know no such row: {other:?}"),
        }
        known += 1;
    }
    assert_eq!(known, 5);
}
