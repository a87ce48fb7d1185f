//! What is shown as a session's token, and what each got.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use marketprism_access::{Config, Credential, UserChange};
use marketprism_model::{Clock, Role, Secret};
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};

use crate::rig::{Rig, SECRET, here, word};

fn sign_with(algorithm: hmac::Algorithm, key: &[u8], header: &str, payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(header: &str, payload: &str) -> String {
    sign_with(hmac::HMAC_SHA256, SECRET.as_bytes(), header, payload)
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The claims of a session that has really begun, to be bent by each attack.
struct Attacker {
    rig: Rig,
    good: String,
    claims: Value,
}

impl Attacker {
    fn new() -> Self {
        let rig = Rig::new();
        rig.user("viktor", Role::Viewer);
        rig.user("ada", Role::Admin);
        rig.pass(Duration::from_secs(1));
        let good = rig.login("viktor").token.expose().to_owned();
        let payload = good.split('.').nth(1).expect("three parts");
        let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
        let claims = serde_json::from_slice(&payload).expect("JSON");
        Attacker { rig, good, claims }
    }

    /// Gives the claims with some changed; `null` takes one out.
    fn with(&self, changes: Value) -> String {
        let mut claims = self.claims.as_object().expect("an object").clone();
        for (key, value) in changes.as_object().expect("an object") {
            match value {
                Value::Null => claims.remove(key),
                _ => claims.insert(key.clone(), value.clone()),
            };
        }
        Value::Object(claims).to_string()
    }

    fn shows(&self, token: &str) -> String {
        let token = Secret::new(token);
        let bearer = self.rig.bearer(&token);
        let cookie = self
            .rig
            .access
            .identify(&here(), Some(&Credential::Cookie(token)));
        assert_eq!(word(&bearer), word(&cookie), "cookie and header are judged alike");
        match bearer {
            Ok(identity) => format!("in as {} {}", identity.actor, identity.role),
            Err(refusal) => refusal.reason().to_owned(),
        }
    }
}

#[test]
fn a_signed_session_is_let_in_and_each_attack_gets_its_refusal() {
    let attacker = Attacker::new();
    let good = attacker.good.as_str();
    let same = attacker.with(json!({}));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let now = u64::try_from(attacker.rig.now().millis() / 1000).expect("after 1970");
    let header = |text: &str| sign(text, &same);
    let claims = |changes: Value| sign(HEADER, &attacker.with(changes));
    let unsigned = |text: &str| {
        format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(text),
            URL_SAFE_NO_PAD.encode(&same)
        )
    };
    let last_bit = {
        // The last letter of 32 bytes carries two bits that mean nothing.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = alphabet
            .find(signature.chars().last().expect("a letter"))
            .expect("of the alphabet");
        let other = alphabet.chars().nth(place ^ 1).expect("of the alphabet");
        format!("{}{other}", &good[..good.len() - 1])
    };
    let doubled = same.replacen('{', r#"{"role":"admin","#, 1);
    let attacks: Vec<(&str, String, &str)> = vec![
        ("itself", good.to_owned(), "in as viktor viewer"),
        (
            "signed by another hand with the same key",
            sign(HEADER, &same),
            "in as viktor viewer",
        ),
        // The algorithm.
        (
            "alg none",
            unsigned(r#"{"alg":"none","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "alg None",
            unsigned(r#"{"alg":"None","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "alg NONE",
            unsigned(r#"{"alg":"NONE","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "alg nOnE",
            unsigned(r#"{"alg":"nOnE","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "alg none, signed all the same",
            header(r#"{"alg":"none","typ":"JWT"}"#),
            "bad_credential",
        ),
        ("alg empty", header(r#"{"alg":"","typ":"JWT"}"#), "bad_credential"),
        (
            "alg null",
            header(r#"{"alg":null,"typ":"JWT"}"#),
            "bad_credential",
        ),
        ("no alg", header(r#"{"typ":"JWT"}"#), "bad_credential"),
        (
            "alg hs256",
            header(r#"{"alg":"hs256","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "RS256 with our secret as its public key",
            header(r#"{"alg":"RS256","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "ES256",
            header(r#"{"alg":"ES256","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "HS512 with our secret",
            sign_with(
                hmac::HMAC_SHA512,
                SECRET.as_bytes(),
                r#"{"alg":"HS512","typ":"JWT"}"#,
                &same,
            ),
            "bad_credential",
        ),
        (
            "SHA-512 under the name HS256",
            sign_with(hmac::HMAC_SHA512, SECRET.as_bytes(), HEADER, &same),
            "bad_credential",
        ),
        // The header's other tricks, all well signed.
        (
            "kid of a file",
            header(r#"{"alg":"HS256","typ":"JWT","kid":"../../dev/null"}"#),
            "bad_credential",
        ),
        (
            "kid of SQL",
            header(r#"{"alg":"HS256","typ":"JWT","kid":"' OR 1=1"}"#),
            "bad_credential",
        ),
        (
            "own key",
            header(r#"{"alg":"HS256","typ":"JWT","jwk":{"kty":"oct","k":"AAAA"}}"#),
            "bad_credential",
        ),
        (
            "key from afar",
            header(r#"{"alg":"HS256","typ":"JWT","jku":"http://127.0.0.1/"}"#),
            "bad_credential",
        ),
        (
            "crit",
            header(r#"{"alg":"HS256","typ":"JWT","crit":["exp"]}"#),
            "bad_credential",
        ),
        (
            "alg twice",
            header(r#"{"alg":"none","alg":"HS256","typ":"JWT"}"#),
            "bad_credential",
        ),
        (
            "other order",
            header(r#"{"typ":"JWT","alg":"HS256"}"#),
            "bad_credential",
        ),
        (
            "other spaces",
            header(r#"{"alg": "HS256", "typ": "JWT"}"#),
            "bad_credential",
        ),
        ("header is an array", header("[]"), "bad_credential"),
        // The key.
        (
            "another key",
            sign_with(
                hmac::HMAC_SHA256,
                b"another-secret-0123456789-0123456789",
                HEADER,
                &same,
            ),
            "bad_credential",
        ),
        (
            "an empty key",
            sign_with(hmac::HMAC_SHA256, b"", HEADER, &same),
            "bad_credential",
        ),
        // The signature and the letters.
        ("no signature", format!("{signed}."), "bad_credential"),
        (
            "signature cut",
            good[..good.len() - 4].to_owned(),
            "bad_credential",
        ),
        (
            "signature of zeros",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
            "bad_credential",
        ),
        ("signature with meaningless bits", last_bit, "bad_credential"),
        ("signature padded", format!("{good}="), "bad_credential"),
        (
            "signature in the other alphabet, padded",
            {
                let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
                format!("{signed}.{}", STANDARD.encode(bytes))
            },
            "bad_credential",
        ),
        (
            "payload padded, well signed",
            {
                let signed = format!(
                    "{}.{}",
                    URL_SAFE_NO_PAD.encode(HEADER),
                    URL_SAFE.encode(format!("{same} "))
                );
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                format!(
                    "{signed}.{}",
                    URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
                )
            },
            "bad_credential",
        ),
        (
            "payload exchanged under the old signature",
            format!(
                "{}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(HEADER),
                URL_SAFE_NO_PAD.encode(attacker.with(json!({"role": "admin"})))
            ),
            "bad_credential",
        ),
        ("two parts", signed.to_owned(), "bad_credential"),
        ("four parts", format!("{good}.{signature}"), "bad_credential"),
        (
            "five parts, as encrypted ones have",
            format!("{good}.a.b"),
            "bad_credential",
        ),
        ("empty", String::new(), "bad_credential"),
        ("dots", "..".to_owned(), "bad_credential"),
        ("a space before", format!(" {good}"), "bad_credential"),
        ("a line end behind", format!("{good}\n"), "bad_credential"),
        ("a zero byte behind", format!("{good}\0"), "bad_credential"),
        (
            "a zero byte within",
            good.replacen('.', "\0.", 1),
            "bad_credential",
        ),
        ("beyond ASCII", format!("{good}é"), "bad_credential"),
        (
            "huge",
            format!("{signed}{}.{signature}", "A".repeat(1 << 20)),
            "bad_credential",
        ),
        (
            "5 KiB, well signed",
            claims(json!({"sub": "v".repeat(4000)})),
            "bad_credential",
        ),
        // The claims, all well signed: what a thief of the secret, or a fault of ours, could make.
        ("deep", sign(HEADER, &"[".repeat(2500)), "bad_credential"),
        ("claims are no object", sign(HEADER, "7"), "bad_credential"),
        (
            "sub twice",
            sign(HEADER, &same.replacen('{', r#"{"sub":"ada","#, 1)),
            "bad_credential",
        ),
        ("role twice", sign(HEADER, &doubled), "bad_credential"),
        ("a claim more", claims(json!({"admin": true})), "bad_credential"),
        (
            "nbf, which nothing here writes",
            claims(json!({"nbf": 0})),
            "bad_credential",
        ),
        ("no exp", claims(json!({"exp": null})), "bad_credential"),
        ("no iat", claims(json!({"iat": null})), "bad_credential"),
        ("no jti", claims(json!({"jti": null})), "bad_credential"),
        ("no sub", claims(json!({"sub": null})), "bad_credential"),
        ("no role", claims(json!({"role": null})), "bad_credential"),
        ("unknown role", claims(json!({"role": "root"})), "bad_credential"),
        (
            "exp as text",
            claims(json!({"exp": "9999999999"})),
            "bad_credential",
        ),
        ("exp negative", claims(json!({"exp": -1})), "bad_credential"),
        (
            "exp beyond 64 bits",
            sign(HEADER, &attacker.with(json!({"exp": 1.0e30}))),
            "bad_credential",
        ),
        (
            "exp before iat",
            claims(json!({"exp": now - 10, "iat": now})),
            "bad_credential",
        ),
        (
            "made a minute ahead",
            claims(json!({"iat": now + 59, "exp": now + 3600})),
            "in as viktor viewer",
        ),
        (
            "made further ahead",
            claims(json!({"iat": now + 62, "exp": now + 3600})),
            "bad_credential",
        ),
        (
            "expired",
            claims(json!({"iat": now - 100, "exp": now - 1})),
            "expired",
        ),
        (
            "expires now",
            claims(json!({"iat": now - 100, "exp": now})),
            "expired",
        ),
        (
            "longer than sessions last",
            claims(json!({"iat": now - 86_400, "exp": u64::MAX})),
            "expired",
        ),
        (
            "the role raised",
            claims(json!({"role": "admin"})),
            "in as viktor viewer",
        ),
        ("nobody's name", claims(json!({"sub": "nobody"})), "expired"),
        ("an empty name", claims(json!({"sub": ""})), "expired"),
        (
            "a name with a zero byte",
            claims(json!({"sub": "viktor\u{0}"})),
            "expired",
        ),
        (
            "begun before the user was made",
            claims(json!({"jti": "00000000-0000-7000-8000-000000000000"})),
            "expired",
        ),
    ];
    let mut faults = Vec::new();
    for (name, token, expected) in &attacks {
        let got = attacker.shows(token);
        if got != *expected {
            faults.push(format!("{name}: got {got}, expected {expected}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_session_ends_when_its_hours_have_passed_and_earlier_when_they_are_lowered() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let session = rig.login("ada");
    assert_eq!(session.expires_at, rig.now() + Duration::from_secs(24 * 3600));
    rig.pass(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(word(&rig.bearer(&session.token)), "in");
    rig.pass(Duration::from_secs(1));
    assert_eq!(word(&rig.bearer(&session.token)), "expired");

    let session = rig.login("ada");
    let mut config = Config::default();
    config.api_auth.token_expiry_hours = 1;
    rig.access.set_config(&config, Secret::new(SECRET));
    rig.pass(Duration::from_secs(3599));
    assert_eq!(word(&rig.bearer(&session.token)), "in");
    rig.pass(Duration::from_secs(1));
    assert_eq!(word(&rig.bearer(&session.token)), "expired");
}

#[test]
fn another_secret_ends_all_sessions_and_leaves_api_tokens() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let session = rig.login("ada").token;
    let token = rig.api_token("grafana", Role::Viewer, None);
    rig.access
        .set_config(&Config::default(), Secret::new(format!("{SECRET}-new")));
    assert_eq!(word(&rig.bearer(&session)), "bad_credential");
    assert_eq!(word(&rig.bearer(&token)), "in");
}

#[test]
fn a_session_ends_on_logout_and_with_every_change_of_its_user() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.user("bob", Role::Operator);
    let new_password = UserChange {
        password: Some(Secret::new("another horse")),
        ..UserChange::default()
    };
    let weaker = UserChange {
        role: Some(Role::Viewer),
        ..UserChange::default()
    };
    let disabled = UserChange {
        is_disabled: Some(true),
        ..UserChange::default()
    };
    let untouched = UserChange {
        role: Some(Role::Operator),
        ..UserChange::default()
    };

    let session = rig.login("bob");
    let other = rig.login("bob");
    let identity = rig.bearer(&session.token).expect("in");
    rig.access.logout(&identity).expect("a logout");
    assert_eq!(word(&rig.bearer(&session.token)), "expired");
    assert_eq!(word(&rig.bearer(&other.token)), "in", "each session ends alone");

    rig.access
        .change_user("bob", untouched)
        .expect("a change of nothing");
    assert_eq!(word(&rig.bearer(&other.token)), "in");
    rig.access.change_user("bob", weaker).expect("a change");
    assert_eq!(word(&rig.bearer(&other.token)), "expired", "the role changed");
    let session = rig.login("bob");
    assert_eq!(
        rig.bearer(&session.token).map(|it| it.role).ok(),
        Some(Role::Viewer)
    );
    rig.access.change_user("bob", new_password).expect("a change");
    assert_eq!(
        word(&rig.bearer(&session.token)),
        "expired",
        "the password changed"
    );
    let session = rig.try_login(&here(), "bob", "another horse").expect("a login");
    rig.access.change_user("bob", disabled).expect("a change");
    assert_eq!(word(&rig.bearer(&session.token)), "disabled");
    rig.access.delete_user("bob").expect("a deletion");
    assert_eq!(word(&rig.bearer(&session.token)), "expired");
    rig.pass(Duration::from_millis(10));
    rig.user("bob", Role::Admin);
    assert_eq!(
        word(&rig.bearer(&session.token)),
        "expired",
        "a namesake gets no old session"
    );
}

#[test]
fn another_replica_hears_of_it_within_five_seconds() {
    let one = Rig::new();
    one.user("ada", Role::Admin);
    let two = Rig::on(&Config::default(), one.store.clone(), one.clock.clone(), 8);
    let (session, other) = (one.login("ada"), one.login("ada"));
    for token in [&session.token, &other.token] {
        assert_eq!(word(&two.bearer(token)), "in");
    }
    let reads = two.store.reads();
    for _ in 0..100 {
        assert_eq!(word(&two.bearer(&session.token)), "in");
    }
    assert_eq!(two.store.reads(), reads, "the records are not asked each time");

    one.access.logout(&session.identity).expect("a logout");
    one.pass(Duration::from_secs(5));
    assert_eq!(word(&two.bearer(&session.token)), "expired");
    assert_eq!(word(&two.bearer(&other.token)), "in");
    let new_password = UserChange {
        password: Some(Secret::new("another horse")),
        ..UserChange::default()
    };
    one.access.change_user("ada", new_password).expect("a change");
    one.pass(Duration::from_secs(5));
    assert_eq!(word(&two.bearer(&other.token)), "expired");
}

#[test]
fn nobody_is_let_in_on_a_session_while_the_records_are_away() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let session = rig.login("ada");
    rig.store.set_away(true);
    assert_eq!(word(&rig.bearer(&session.token)), "store");
    rig.store.set_away(false);
    assert_eq!(word(&rig.bearer(&session.token)), "in");
    rig.store.set_away(true);
    rig.pass(Duration::from_secs(4));
    assert_eq!(
        word(&rig.bearer(&session.token)),
        "in",
        "what was read is believed for five seconds"
    );
    rig.pass(Duration::from_secs(1));
    assert_eq!(word(&rig.bearer(&session.token)), "store");
}

#[test]
fn a_clock_set_back_a_little_keeps_sessions_and_set_back_far_ends_them() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.pass(Duration::from_secs(3600));
    let session = rig.login("ada");
    rig.clock.jump_to(rig.clock.now() - Duration::from_secs(30));
    assert_eq!(word(&rig.bearer(&session.token)), "in");
    rig.clock.jump_to(rig.clock.now() - Duration::from_secs(1800));
    assert_eq!(word(&rig.bearer(&session.token)), "bad_credential");
}

proptest! {
    #[test]
    fn no_token_that_was_bent_anywhere_is_let_in(place in 0usize..400, byte in 0u8..128, is_cut in any::<bool>()) {
        thread_local!(static ATTACKER: Attacker = Attacker::new());
        ATTACKER.with(|attacker| {
            let mut bytes = attacker.good.clone().into_bytes();
            let place = place % bytes.len();
            if is_cut {
                bytes.truncate(place);
            } else if bytes[place] == byte {
                return;
            } else {
                bytes[place] = byte;
            }
            let token = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(attacker.shows(&token), "bad_credential", "{token}");
        });
    }

    #[test]
    fn every_parser_takes_any_text_and_forges_nothing(
        text in "\\PC{0,200}", shaped in "(v1;)?[0-9a-f:.;,/\\[\\]]{0,60}(;direct;[A-Za-z0-9_-]{0,50})?", json in "\\{(\"(sub|exp|iat|jti|role)\":[0-9a-z\"-]{1,20},?){0,6}\\}"
    ) {
        for text in [text, shaped, json] {
            marketprism_access::fuzz(&text);
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic(text in "\\PC{0,200}", payload in "\\PC{0,200}") {
        thread_local!(static ATTACKER: Attacker = Attacker::new());
        ATTACKER.with(|attacker| {
            assert_ne!(attacker.shows(&text), "in as viktor viewer");
            assert_eq!(attacker.shows(&sign(HEADER, &payload)), "bad_credential");
        });
    }
}
