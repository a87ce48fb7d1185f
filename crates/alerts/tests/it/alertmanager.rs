//! Grouping and deduplication next to Debian's Alertmanager: the same alerts, the same messages.
//!
//! Alertmanager runs with intervals of seconds, and scripts run beside each other, each a group of its own.
//! Their steps fall between its flushes, so that a busy machine does not change the answer. Ours runs the same
//! scripts in its own time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marketprism_model::{Chance, Clock, Lifecycle, Timestamp};
use marketprism_testkit::{ChildGuard, MachineClock, SeededChance, free_port, wait_for};

use crate::world::*;

const SCRIPTS: usize = 60;
const STEPS: usize = 7;
const INSTANCES: usize = 3;
/// A step every two seconds; the flushes are at 1 s, 3 s, 5 s, … after a group's first alert.
const STEP: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(30);

/// What an instance does in one step.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Rest,
    Fire,
    End,
    /// It ends and fires again before the next flush.
    Flick,
}

/// A message, in short: who fires, who ended.
type Short = (Vec<String>, Vec<String>);

fn scripts() -> Vec<Vec<[Act; INSTANCES]>> {
    let dice = SeededChance::new(25);
    (0..SCRIPTS)
        .map(|_| {
            let mut fires = [false; INSTANCES];
            (0..STEPS)
                .map(|_| {
                    std::array::from_fn(|i| {
                        let act = match (dice.next_u64() % 6, fires[i]) {
                            (0 | 1, false) => Act::Fire,
                            (0, true) => Act::End,
                            (1, true) => Act::Flick,
                            _ => Act::Rest,
                        };
                        fires[i] = match act {
                            Act::Fire | Act::Flick => true,
                            Act::End => false,
                            Act::Rest => fires[i],
                        };
                        act
                    })
                })
                .collect()
        })
        .collect()
}

fn name(script: usize) -> String {
    format!("S{script}")
}

/// Runs the scripts through our room, second by second.
fn ours(scripts: &[Vec<[Act; INSTANCES]>]) -> BTreeMap<String, Vec<Short>> {
    let mut config = config();
    config.route.group_wait = Some(Duration::from_secs(1));
    config.route.group_interval = Some(Duration::from_secs(2));
    config.route.repeat_interval = Some(Duration::from_secs(5));
    let world = World::new(config);
    let rules: Vec<_> = (0..scripts.len())
        .map(|script| rule(&name(script), Duration::ZERO))
        .collect();
    let mut fires = vec![[false; INSTANCES]; scripts.len()];
    let observe = |script: usize, fires: &[bool; INSTANCES]| {
        let observations = (0..INSTANCES)
            .filter(|i| fires[*i])
            .map(|i| seen(&name(script), &i.to_string(), "#"))
            .collect();
        world.observe(&rules[script], observations);
    };
    for step in 0..STEPS {
        for (script, acts) in scripts.iter().enumerate() {
            for (i, act) in acts[step].iter().enumerate() {
                if *act == Act::Flick {
                    fires[script][i] = false;
                }
            }
            observe(script, &fires[script]);
            for (i, act) in acts[step].iter().enumerate() {
                match act {
                    Act::Fire | Act::Flick => fires[script][i] = true,
                    Act::End => fires[script][i] = false,
                    Act::Rest => {}
                }
            }
            observe(script, &fires[script]);
        }
        world.alerts.commit(world.now()).expect("commit");
        for _ in 0..STEP.as_secs() {
            world.pass(Duration::from_secs(1));
            world.alerts.flush(world.now()).expect("flush");
        }
    }
    let mut heard: BTreeMap<String, Vec<Short>> = BTreeMap::new();
    for message in world
        .messages()
        .iter()
        .filter(|message| message.channel == "mail")
    {
        let json = serde_json::json!({ "alerts": message.content.alerts.iter().map(|alert| serde_json::json!({
            "status": alert.state.as_str(), "labels": alert.labels,
        })).collect::<Vec<_>>() });
        let name = message
            .content
            .group_labels
            .get("alertname")
            .expect("grouped by it");
        heard.entry(name.to_owned()).or_default().push(in_short(&json));
    }
    heard
}

fn in_short(message: &serde_json::Value) -> Short {
    let with = |status: &str| {
        let mut instances: Vec<String> = message["alerts"]
            .as_array()
            .expect("alerts")
            .iter()
            .filter(|alert| alert["status"] == status)
            .map(|alert| alert["labels"]["i"].as_str().expect("an instance").to_owned())
            .collect();
        instances.sort();
        instances
    };
    (with("firing"), with("resolved"))
}

/// A webhook receiver that remembers what it was told, by group.
fn listen() -> (u16, Arc<Mutex<BTreeMap<String, Vec<Short>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let heard: Arc<Mutex<BTreeMap<String, Vec<Short>>>> = Arc::default();
    let kept = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heard = Arc::clone(&kept);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(body) = read_request(&mut reader) {
                    let message: serde_json::Value = serde_json::from_slice(&body).expect("a webhook's body");
                    let group = message["groupLabels"]["alertname"]
                        .as_str()
                        .expect("a group")
                        .to_owned();
                    heard
                        .lock()
                        .expect("no panic")
                        .entry(group)
                        .or_default()
                        .push(in_short(&message));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if reader.get_mut().write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, heard)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn post(port: u16, alerts: &[serde_json::Value]) {
    let body = serde_json::to_string(alerts).expect("json");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("alertmanager listens");
    write!(
        stream,
        "POST /api/v2/alerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn posted(script: usize, i: usize, ends_at: Timestamp) -> serde_json::Value {
    serde_json::json!({
        "labels": { "alertname": name(script), "i": i.to_string() },
        "endsAt": ends_at.to_string(),
    })
}

/// Runs the scripts through Alertmanager, in real time.
fn theirs(scripts: &[Vec<[Act; INSTANCES]>]) -> BTreeMap<String, Vec<Short>> {
    let (webhook, heard) = listen();
    let folder = tempfile::tempdir().expect("folder");
    let mut config = String::new();
    write!(
        config,
        "route: {{receiver: r, group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 5s}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: 'http://127.0.0.1:{webhook}/', send_resolved: true}}]}}]\n"
    )
    .expect("a string takes everything");
    std::fs::write(folder.path().join("am.yml"), config).expect("write");
    let port = free_port();
    let mut child = ChildGuard::spawn(
        Command::new("prometheus-alertmanager")
            .arg(format!(
                "--config.file={}",
                folder.path().join("am.yml").display()
            ))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address="),
    )
    .expect("apt install prometheus-alertmanager");
    child.wait_for_line(DEADLINE, "Listening on");

    let clock = MachineClock::default();
    let begun = clock.monotonic();
    for step in 0..STEPS {
        let due = begun + STEP * step as u32;
        wait_for(DEADLINE, || clock.monotonic() >= due);
        let now = clock.now();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (script, acts) in scripts.iter().enumerate() {
            for (i, act) in acts[step].iter().enumerate() {
                match act {
                    Act::Fire => second.push(posted(script, i, now + HOUR)),
                    Act::End => second.push(posted(script, i, now)),
                    Act::Flick => {
                        first.push(posted(script, i, now));
                        second.push(posted(script, i, now + HOUR));
                    }
                    Act::Rest => {}
                }
            }
        }
        post(port, &first);
        post(port, &second);
    }
    let due = begun + STEP * STEPS as u32;
    wait_for(DEADLINE, || clock.monotonic() >= due);
    child.kill();
    std::mem::take(&mut heard.lock().expect("no panic"))
}

#[test]
fn groups_are_told_the_same_messages_as_by_alertmanager() {
    let scripts = scripts();
    let (ours, theirs) = (ours(&scripts), theirs(&scripts));
    for (script, acts) in scripts.iter().enumerate() {
        let name = name(script);
        assert_eq!(ours.get(&name), theirs.get(&name), "script {script}: {acts:?}");
    }
    let count: usize = theirs.values().map(Vec::len).sum();
    let with_ends = theirs
        .values()
        .flatten()
        .filter(|(_, ended)| !ended.is_empty())
        .count();
    println!(
        "{} scripts, {} told of, {count} messages, {with_ends} with ends",
        scripts.len(),
        theirs.len()
    );
    assert!(
        theirs.len() * 10 >= scripts.len() * 8,
        "too many scripts told of nothing"
    );
    assert!(with_ends > 20, "too few ends to compare: {with_ends}");
}
