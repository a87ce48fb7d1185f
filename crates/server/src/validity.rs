//! The time of a certificate, read from its DER: the two moments and nothing else.
//!
//! rustls judges certificates but does not tell their time, and a whole parser of X.509 is a dozen crates for two
//! moments that only make a warning. Whatever does not look as expected gives `None`.
//!
//! Source: RFC 5280, section 4.1: Certificate, TBSCertificate, Validity; 4.1.2.5.1 and 4.1.2.5.2 for the two ways to
//! write a moment.

use marketprism_model::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Gives the first and the last moment of a certificate's time.
pub(crate) fn of(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (mut to_be_signed, _) = take(certificate, SEQUENCE)?;
    if to_be_signed.first() == Some(&VERSION) {
        to_be_signed = take(to_be_signed, VERSION)?.1;
    }
    let (_serial, rest) = take(to_be_signed, INTEGER)?;
    let (_algorithm, rest) = take(rest, SEQUENCE)?;
    let (_issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, _) = take(rest, SEQUENCE)?;
    let (begins_at, rest) = moment(validity)?;
    let (ends_at, _) = moment(rest)?;
    Some((begins_at, ends_at))
}

/// Takes one element with a given tag: its content, and what follows.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, mut rest) = rest.split_first()?;
    let length = match usize::from(*first) {
        short @ 0..0x80 => short,
        long => {
            let count = long - 0x80;
            if !(1..=4).contains(&count) {
                return None;
            }
            let (digits, after) = rest.split_at_checked(count)?;
            rest = after;
            digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
    };
    rest.split_at_checked(length)
}

fn moment(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = match bytes.first()? {
        &UTC_TIME => {
            let (text, rest) = take(bytes, UTC_TIME)?;
            // Years from 50 on are of the last century.
            let century = if text.first()? >= &b'5' { "19" } else { "20" };
            (text, rest, century)
        }
        _ => {
            let (text, rest) = take(bytes, GENERALIZED_TIME)?;
            (text, rest, "")
        }
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let digits = text.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &digits[..4],
        &digits[4..6],
        &digits[6..8],
        &digits[8..10],
        &digits[10..12],
        &digits[12..]
    );
    let moment: jiff::Timestamp = written.parse().ok()?;
    Some((Timestamp::from_millis(moment.as_millisecond()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_testkit::TestAuthority;
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn the_time_of_a_certificate_is_the_one_it_was_made_for() {
        let authority = TestAuthority::new();
        let file = authority.issue_expired(&["localhost"]).cert_file;
        let certificate = CertificateDer::from_pem_file(file).expect("a PEM file");
        let (begins_at, ends_at) = of(&certificate).expect("a certificate");
        assert_eq!(
            (begins_at.to_string().as_str(), ends_at.to_string().as_str()),
            ("2000-01-01T00:00:00.000Z", "2001-01-01T00:00:00.000Z")
        );
    }

    #[test]
    fn both_ways_to_write_a_moment_are_read() {
        let check = |tag: u8, text: &str, expected: Option<&str>| {
            let mut bytes = vec![tag, text.len() as u8];
            bytes.extend(text.bytes());
            let read = moment(&bytes).map(|(at, _)| at.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        check(UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59.000Z"));
        check(UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00.000Z"));
        check(
            GENERALIZED_TIME,
            "20501231235959Z",
            Some("2050-12-31T23:59:59.000Z"),
        );
        check(UTC_TIME, "4912312359Z", None);
        check(GENERALIZED_TIME, "20501331235959Z", None);
    }

    static CERTIFICATE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let authority = TestAuthority::new();
        let file = authority.issue(&["localhost"]).cert_file;
        CertificateDer::from_pem_file(file).expect("a PEM file").to_vec()
    });

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut certificate = CERTIFICATE.clone();
            let place = place.index(certificate.len());
            certificate[place] = byte;
            if cut {
                certificate.truncate(place);
            }
            let _ = of(&certificate);
        }
    }
}
