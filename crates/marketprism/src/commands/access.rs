//! `marketprism user …` and `marketprism token …`: people and programs that may log in, also while the service runs.
//!
//! The commands work on the records themselves, so whoever may read the data folder (or has the database's address) may
//! use them; each leaves an entry in the audit log. What they may do is decided in `access`.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context, bail};
use marketprism_access::{Event, Identity, NewToken, NewUser, UserChange, new_password};
use marketprism_model::{AuditOutcome, Role, Secret, Timestamp};

use crate::cli::{Token, User};
use crate::clock::SystemEntropy;
use crate::commands::Toolbox;

/// Milliseconds of a day.
const DAY_MILLIS: i64 = 86_400_000;
/// Who the audit log names for what is done here.
fn operator() -> Identity {
    Identity {
        actor: "command line".to_owned(),
        role: Role::Admin,
        session: None,
    }
}

fn record(tools: &Toolbox, action: &'static str, subject: &str) {
    tools.access.record(Event {
        identity: Some(&operator()),
        action,
        subject,
        outcome: AuditOutcome::Done,
        client: None,
        trace_id: "",
        detail: "",
    });
}

/// Runs a command on users.
pub fn user(command: User) -> anyhow::Result<String> {
    match command {
        User::Add {
            name,
            role,
            generate,
            place,
        } => {
            let tools = Toolbox::open(&place)?;
            let (password, shown) = password(generate)?;
            tools.access.create_user(NewUser {
                name: name.clone(),
                role,
                password,
            })?;
            record(&tools, "user.create", &name);
            Ok(format!("user {name} ({role}) was added{shown}\n"))
        }
        User::ResetPassword {
            name,
            generate,
            place,
        } => {
            let tools = Toolbox::open(&place)?;
            let (password, shown) = password(generate)?;
            let change = UserChange {
                password: Some(password),
                ..UserChange::default()
            };
            tools.access.change_user(&name, change)?;
            record(&tools, "user.password", &name);
            Ok(format!(
                "user {name} has a new password; sessions that were open have ended{shown}\n"
            ))
        }
        User::List { place } => {
            let mut text = String::new();
            for user in Toolbox::open(&place)?.access.users()? {
                let state = if user.is_disabled { "  disabled" } else { "" };
                let _ = writeln!(
                    text,
                    "{:<24} {:<9} since {}{state}",
                    user.name, user.role, user.created_at
                );
            }
            Ok(text)
        }
    }
}

/// Runs a command on tokens.
pub fn token(command: Token) -> anyhow::Result<String> {
    match command {
        Token::Create {
            name,
            role,
            days,
            place,
        } => {
            let tools = Toolbox::open(&place)?;
            let now = tools.clock.now().millis();
            let expires_at = days.map(|days| Timestamp::from_millis(now + i64::from(days) * DAY_MILLIS));
            let token = NewToken {
                name,
                role,
                expires_at,
            };
            let (token, value) = tools.access.create_token(&operator(), token)?;
            record(&tools, "token.create", &token.name);
            Ok(format!("{}\n", value.expose()))
        }
        Token::List { place } => {
            let mut text = String::new();
            for token in Toolbox::open(&place)?.access.tokens()? {
                let end = token.expires_at.map_or("never".to_owned(), |at| at.to_string());
                let used = token.last_used_at.map_or("never".to_owned(), |at| at.to_string());
                let _ = writeln!(
                    text,
                    "{:<24} {:<9} ends {end}  last used {used}",
                    token.name, token.role
                );
            }
            Ok(text)
        }
        Token::Revoke { name, place } => {
            let tools = Toolbox::open(&place)?;
            tools.access.delete_token(&name)?;
            record(&tools, "token.delete", &name);
            Ok(format!("token {name} has ended\n"))
        }
    }
}

/// Makes, asks for, or reads a password; gives it with what to print of it.
fn password(generate: bool) -> anyhow::Result<(Secret, String)> {
    if generate {
        let password = new_password(&SystemEntropy);
        let shown = format!("; password: {}", password.expose());
        return Ok((password, shown));
    }
    if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("password: ").context("read the password")?;
        let second = rpassword::prompt_password("once more: ").context("read the password")?;
        if first != second {
            bail!("the two passwords differ");
        }
        return Ok((Secret::new(first), String::new()));
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.context("read the password from standard input")?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        bail!("standard input has no password; give one line, or --generate");
    }
    Ok((Secret::new(line), String::new()))
}
