//! What the operator writes, and what he is told when it does not fit.

use marketprism_access::{Config, judge_secret};

fn faults(yaml: &str) -> Vec<String> {
    let config: Config = serde_saphyr::from_str(yaml).expect(yaml);
    config.faults().iter().map(ToString::to_string).collect()
}

#[test]
fn the_guides_own_section_is_taken() {
    let guide = "
api_auth:
  enabled: true
  jwt_secret: \"0123456789abcdef-0123456789abcdef\"
  token_expiry_hours: 24
access_control:
  enabled: true
  allowed_ips:
    - \"10.0.0.0/8\"
    - \"172.16.0.0/12\"
    - \"192.168.0.0/16\"
";
    assert_eq!(faults(guide), Vec::<String>::new());
    assert_eq!(faults("{}"), Vec::<String>::new());
    let config: Config = serde_saphyr::from_str("{}").expect("nothing is enough");
    assert!(
        config.api_auth.enabled && !config.access_control.enabled,
        "secure by default"
    );
    assert!(serde_saphyr::from_str::<Config>("api_auth: {token_expiry: 3}").is_err());
    let shown = format!(
        "{:?}",
        serde_saphyr::from_str::<Config>(guide).expect("it is taken")
    );
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
}

#[test]
fn each_fault_names_its_key_and_what_would_be_taken() {
    let check = |yaml: &str, expected: &[&str]| assert_eq!(faults(yaml), expected, "{yaml}");
    check(
        "api_auth: {token_expiry_hours: 0}",
        &["security.api_auth.token_expiry_hours is 0; it must be 1 to 8760"],
    );
    check(
        "api_auth: {audit_retention: 1, login_attempts: {per_user: 0, per_address: 10001, delay_max_seconds: 0}}",
        &[
            "security.api_auth.login_attempts.per_user is 0; it must be 1 to 100",
            "security.api_auth.login_attempts.per_address is 10001; it must be 1 to 10000",
            "security.api_auth.login_attempts.delay_max_seconds is 0; it must be 1 to 86400 (one day)",
            "security.api_auth.audit_retention is 1; it must be 86400 (one day) to 315360000 (ten years)",
        ],
    );
    check(
        "access_control: {enabled: true}",
        &[
            "security.access_control.allowed_ips is empty while enabled is true; it must name an address or block, \
           127.0.0.1 for this machine alone",
        ],
    );
    check(
        "access_control: {allowed_ips: [10.0.0.0/33, host, '::ffff:10.0.0.0/90'], trusted_proxies: ['10.0.0.1/+8']}",
        &[
            "security.access_control.allowed_ips: \"10.0.0.0/33\" is no address and no block; expected such as \
             10.1.2.3, 10.0.0.0/8 or fd00::/8",
            "security.access_control.allowed_ips: \"host\" is no address and no block; expected such as 10.1.2.3, \
             10.0.0.0/8 or fd00::/8",
            "security.access_control.allowed_ips: \"::ffff:10.0.0.0/90\" holds IPv4 inside IPv6 and more; write the \
             IPv4 block and the IPv6 block",
            "security.access_control.trusted_proxies: \"10.0.0.1/+8\" is no address and no block; expected such as \
             10.1.2.3, 10.0.0.0/8 or fd00::/8",
        ],
    );
    check(
        "api_auth: {jwt_secret: your_jwt_secret_key, jwt_secret_file: /run/secrets/jwt}",
        &[
            "security.api_auth.jwt_secret and jwt_secret_file are both set; it must be one of them",
            "security.api_auth.jwt_secret is a placeholder that everybody knows; it must be a secret, made for \
             example by `openssl rand -hex 32`",
        ],
    );
    check("api_auth: {enabled: false, jwt_secret: your_jwt_secret_key}", &[]);
    let many = "10.0.0.1, ".repeat(1001);
    check(
        &format!("access_control: {{allowed_ips: [{many}]}}"),
        &["security.access_control.allowed_ips: has 1001 entries; it must have at most 1000"],
    );
}

#[test]
fn secrets_are_judged_by_what_an_attacker_would_try() {
    let check = |secret: &str, expected: &str| {
        let told = match judge_secret(secret) {
            Ok(None) => "taken".to_owned(),
            Ok(Some(warning)) => warning,
            Err(error) => error.to_string(),
        };
        assert!(told.starts_with(expected), "{secret:?}: {told}");
        let is_hidden = secret.len() < 12 || !told.contains(secret);
        assert!(is_hidden, "the secret is told");
    };
    for placeholder in [
        "your_jwt_secret_key",
        "YOUR-JWT-SECRET-KEY",
        "your_jwt_secret_key_123",
        "changeme",
        "change_me_please_0123456789",
        "secret",
        "password",
        "<your-secret-key-here>",
        "${JWT_SECRET}",
        "placeholder-placeholder-placeholder",
    ] {
        check(placeholder, "is a placeholder");
    }
    check("", "has 0 bytes");
    check("fifteen-letters", "has 15 bytes; it must have at least 16");
    check("sixteen-letters!", "has 16 bytes; 32 or more");
    check("thirty-one letters, not a single", "taken");
    check("thirty-one letters, not one mor", "has 31 bytes; 32 or more");
    check("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats fewer than 5");
    check(
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "taken",
    );
    check(
        &"x1y2z3".repeat(1000),
        "has 6000 bytes; it must have at most 4096",
    );
}
