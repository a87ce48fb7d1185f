//! Keeps secrets out of what is recorded and shown.

/// Shorter secrets are not looked for: they would blank out ordinary words.
const SECRET_CHARS_MIN: usize = 4;

/// Knows a channel's secrets and blanks them out wherever they appear.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<String>);

impl Redactor {
    /// Takes secrets: passwords, tokens, whole URLs. The telling parts of a URL are looked for by themselves too.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut parts: Vec<String> = Vec::new();
        for secret in secrets {
            parts.push(secret.to_owned());
            if let Some((_, rest)) = secret.split_once("://") {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                if let Some((credentials, _)) = authority.rsplit_once('@') {
                    parts.push(credentials.to_owned());
                    parts.extend(
                        credentials
                            .split_once(':')
                            .map(|(_, password)| password.to_owned()),
                    );
                }
                parts.push(path.to_owned());
                let query = path.split_once('?').map_or("", |(_, query)| query);
                let values = form_urlencoded::parse(query.as_bytes()).map(|(_, value)| value.into_owned());
                parts.extend(values);
            }
        }
        parts.retain(|part| part.chars().count() >= SECRET_CHARS_MIN);
        // The longest first, so that no part of a secret is left standing around a shorter one.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.dedup();
        Redactor(parts)
    }

    /// Blanks the secrets out.
    pub(crate) fn redact(&self, text: &str) -> String {
        let start = text.to_owned();
        self.0
            .iter()
            .fold(start, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Shows of a URL what is no secret: scheme, host and port.
pub fn shown_url(url: &str) -> String {
    let shown = marketprism_net::without_credentials(url);
    let Some((scheme, rest)) = shown.split_once("://") else {
        return "***".to_owned();
    };
    let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    match authority.len() == rest.len() {
        true => format!("{scheme}://{authority}"),
        false => format!("{scheme}://{authority}/***"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_blanked_out_whole_and_in_part() {
        let url = "https://bot:hunter2@oapi.example/robot/send?access_token=abcdef&x=1";
        let redactor = Redactor::new([url]);
        for said in [
            "cannot reach https://bot:hunter2@oapi.example/robot/send?access_token=abcdef&x=1",
            "token abcdef is unknown",
            "no such path /robot/send?access_token=abcdef&x=1",
            "password hunter2 is wrong",
        ] {
            let kept = redactor.redact(said);
            assert!(!kept.contains("abcdef") && !kept.contains("hunter2"), "{kept}");
        }
        assert_eq!(redactor.redact("x = 1"), "x = 1");
    }

    #[test]
    fn a_shown_url_names_the_host_and_nothing_else() {
        let check = |url, expected: &str| assert_eq!(shown_url(url), expected);
        check(
            "https://hooks.slack.com/services/T0/B0/XX",
            "https://hooks.slack.com/***",
        );
        check("https://u:p@host:8443?token=x", "https://host:8443/***");
        check("https://host", "https://host");
        check("secret", "***");
        check("http://host#secret", "http://host/***");
    }
}
