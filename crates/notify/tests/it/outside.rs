//! What comes from outside never makes us panic, and is never lost on the way into the record.

use marketprism_model::Timestamp;
use marketprism_notify::http_answer::parse_retry_after;
use marketprism_notify::{Delivery, dingtalk, shown_url, slack};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_answer_is_one_of_three(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let is_good = (200..300).contains(&status);
        for delivery in [slack::fuzz_answer(status, &body), dingtalk::fuzz_answer(status, &body)] {
            let is_delivered = matches!(delivery, Delivery::Delivered { .. });
            prop_assert!(is_good || !is_delivered, "{status} was taken for a receipt");
        }
    }

    #[test]
    fn only_errcode_zero_is_a_receipt(errcode in any::<i64>(), errmsg in ".{0,20}") {
        let body = serde_json::json!({"errcode": errcode, "errmsg": errmsg}).to_string();
        let delivery = dingtalk::fuzz_answer(200, body.as_bytes());
        prop_assert_eq!(matches!(delivery, Delivery::Delivered { .. }), errcode == 0);
    }

    #[test]
    fn any_retry_after_is_at_most_an_hour(value in ".{0,40}", now in any::<i64>()) {
        let span = parse_retry_after(&value, Timestamp::from_millis(now));
        prop_assert!(span.is_none_or(|span| span.as_secs() <= 3600));
    }

    #[test]
    fn a_shown_url_never_shows_path_query_or_password(
        host in "[a-z]{1,8}", secret in "[A-Z0-9]{6,20}", shape in 0usize..4,
    ) {
        let url = match shape {
            0 => format!("https://{host}/services/{secret}"),
            1 => format!("https://{host}?token={secret}"),
            2 => format!("https://user:{secret}@{host}/"),
            _ => format!("https://{host}#{secret}"),
        };
        prop_assert!(!shown_url(&url).contains(&secret));
        prop_assert!(shown_url(&url).contains(&host));
    }

    #[test]
    fn any_text_can_be_shown(url in ".{0,60}") {
        let _ = shown_url(&url);
    }
}
