//! Each route of the compatible surface with what it may not be asked, in Prometheus' words.

use crate::reply::get;
use crate::rig::{Rig, labels};

#[tokio::test]
async fn bad_questions_are_told_apart_as_prometheus_tells_them_apart() {
    let rig = Rig::start().await;
    rig.rooms
        .append(&labels(&[("__name__", "m"), ("a", "1")]), &[(10, 1.0)]);
    rig.rooms
        .append(&labels(&[("__name__", "m"), ("a", "2")]), &[(10, 1.0)]);
    let check = async |path: &str, status: u16, kind: &str, message: &str| {
        let reply = get(rig.address, &format!("/prometheus/api/v1/{path}")).await;
        let answer = reply.json();
        assert_eq!(
            (
                reply.status.as_u16(),
                answer["status"].as_str(),
                answer["errorType"].as_str()
            ),
            (status, Some("error"), Some(kind)),
            "{path}: {answer}"
        );
        assert_eq!(reply.header("content-type"), "application/json");
        let told = answer["error"].as_str().expect("an error has words");
        assert!(told.contains(message), "{path}: {told:?} lacks {message:?}");
    };
    let bad = async |path: &str, message: &str| check(path, 400, "bad_data", message).await;
    // The messages are Prometheus 3's; most of them are compared with a peer in `faults`.
    bad(
        "query",
        "invalid parameter \"query\": unknown position: parse error: no expression found in input",
    )
    .await;
    bad("query?query=foo(", "invalid parameter \"query\": ").await;
    bad("query?query=sum(1)", "parse error: ").await;
    bad("query?query=up&time=abc", "invalid parameter \"time\": invalid time value for 'time': cannot parse \"abc\" to a valid timestamp").await;
    bad(
        "query?query=up&timeout=x",
        "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
    )
    .await;
    bad("query?query=up&limit=-1", "limit must be non-negative").await;
    bad("query_range?query=m&start=1&end=2&step=0", "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer").await;
    bad(
        "query_range?query=m&start=3&end=2&step=1",
        "invalid parameter \"end\": end timestamp must not be before start time",
    )
    .await;
    bad("query_range?query=m&start=1&end=20000&step=1", "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)").await;
    bad(
        "query_range?query=m&start=1&end=2&step=1e30",
        "invalid parameter \"step\": cannot parse \"1e30\" to a valid duration. It overflows int64",
    )
    .await;
    bad(
        "query_range?query=m&end=2&step=1",
        "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
    )
    .await;
    bad(
        "query_range?query=m&start=1&step=1",
        "invalid parameter \"end\": cannot parse \"\" to a valid timestamp",
    )
    .await;
    bad(
        "query_range?query=m&start=1&end=2",
        "invalid parameter \"step\": cannot parse \"\" to a valid duration",
    )
    .await;
    bad(
        "query_range?query=m[5m]&start=1&end=2&step=1",
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
    )
    .await;
    bad("query_exemplars", "no expression found in input").await;
    bad("query_exemplars?query=m&start=x", "invalid parameter \"start\"").await;
    bad("format_query?query=(", "invalid parameter \"query\": ").await;
    bad("series", "no match[] parameter provided").await;
    bad("series?match[]=foo(", "invalid parameter \"match[]\": ").await;
    bad("series?match[]={}", "invalid parameter \"match[]\": ").await;
    bad("series?match[]=m[5m]", "invalid parameter \"match[]\": ").await;
    bad("series?match[]=m&start=x", "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp").await;
    bad("labels?end=x", "invalid parameter \"end\"").await;
    bad("labels?match[]={a=~\"(\"}", "").await;
    bad("label/a/values?limit=x", "invalid parameter \"limit\"").await;
    bad("label/%ff/values", "path").await;
    bad("metadata?limit=x", "limit must be a number").await;
    bad("targets/metadata?match_target=(", "parse error").await;
    bad("status/tsdb?limit=0", "limit must be a positive number").await;
    check(
        "query?query=m*on()m",
        422,
        "execution",
        "many-to-many matching not allowed",
    )
    .await;
    check("query?query={a=~\"1|2\"}*on()group_left()m", 422, "execution", "").await;
}

#[tokio::test]
async fn what_prometheus_answers_with_nothing_is_no_error_here() {
    let rig = Rig::start().await;
    let check = async |path: &str, data: serde_json::Value| {
        let answer = get(rig.address, &format!("/prometheus/api/v1/{path}"))
            .await
            .json();
        assert_eq!(
            answer,
            serde_json::json!({ "status": "success", "data": data }),
            "{path}"
        );
    };
    let empty = serde_json::json!([]);
    check("labels?start=5&end=3", empty.clone()).await;
    check("series?match[]=nothing", empty.clone()).await;
    check("label/nothing/values", empty.clone()).await;
    check("query_exemplars?query=up", empty.clone()).await;
    check("targets/metadata", empty.clone()).await;
    check("metadata", serde_json::json!({})).await;
    check(
        "query?query=nothing",
        serde_json::json!({ "resultType": "vector", "result": [] }),
    )
    .await;
    check(
        "query?query=up[5m]&time=1",
        serde_json::json!({ "resultType": "matrix", "result": [] }),
    )
    .await;
    check(
        "alertmanagers",
        serde_json::json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }),
    )
    .await;
    let no_targets =
        serde_json::json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} });
    check("targets?state=nonsense", no_targets).await;
    check("format_query?query=sum(up)", "sum(up)".into()).await;
    check("scrape_pools", serde_json::json!({ "scrapePools": [] })).await;
    check("notifications", empty.clone()).await;
    check(
        "status/walreplay",
        serde_json::json!({ "min": 0, "max": 0, "current": 0 }),
    )
    .await;
    // The shape of Prometheus 3.14's translate_ast.go, by hand.
    let up = serde_json::json!({
        "type": "vectorSelector", "name": "up", "offset": 60_000, "offsetExpr": null,
        "matchers": [
            { "name": "job", "value": "a", "type": "=~" },
            { "name": "__name__", "value": "up", "type": "=" },
        ],
        "timestamp": null, "startOrEnd": "end", "anchored": false, "smoothed": false,
    });
    let path = "parse_query?query=up{job=~\"a\"} @ end() offset 1m";
    check(path, up).await;
    // An expression that reads nothing can have no exemplars, and Prometheus then has no data at all.
    let reply = get(rig.address, "/prometheus/api/v1/query_exemplars?query=1").await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
}

#[tokio::test]
async fn statistics_are_told_when_they_are_wanted() {
    let rig = Rig::start().await;
    rig.rooms
        .append(&labels(&[("__name__", "m")]), &[(30, 1.0), (20, 2.0), (10, 3.0)]);
    let at = rig.rooms.clock_now().seconds_f64();
    let ask = async |stats: &str| {
        let path = format!("/prometheus/api/v1/query?query=count_over_time(m[1m])&time={at}&stats={stats}");
        get(rig.address, &path).await.json()
    };
    assert!(ask("").await["data"].get("stats").is_none());
    for wanted in ["true", "all"] {
        let answer = ask(wanted).await;
        assert_eq!(answer["data"]["stats"]["samples"]["samplesRead"], 3, "{answer}");
        for name in [
            "evalTotalTime",
            "resultSortTime",
            "queryPreparationTime",
            "innerEvalTime",
            "execQueueTime",
            "execTotalTime",
        ] {
            assert!(
                answer["data"]["stats"]["timings"][name].is_number(),
                "{name}: {answer}"
            );
        }
        assert!(answer.get("warnings").is_none(), "{answer}");
    }
    let answer = ask("yes").await;
    assert!(answer["data"]["stats"].is_object());
    assert_eq!(
        answer["warnings"][0],
        "value \"yes\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
    );
}

#[tokio::test]
async fn our_own_lists_refuse_what_they_do_not_know() {
    let rig = Rig::start().await;
    let check = async |path: &str, detail: &str| {
        let reply = get(rig.address, &format!("/api/v1/{path}")).await;
        assert_eq!(reply.status.as_u16(), 400, "{path}: {:?}", reply.body);
        assert_eq!(reply.json()["detail"], detail, "{path}");
    };
    check(
        "alerts?state=burning",
        "state: unknown alert state \"burning\"; known are pending, firing, resolved",
    )
    .await;
    check(
        "alerts?level=P1",
        "level: unknown level \"P1\"; known are critical, high, medium, low",
    )
    .await;
    check("alerts?label=instance", "label: \"instance\" is not name:value").await;
    check(
        "alerts?acknowledged=yes",
        "acknowledged: \"yes\" is neither true nor false",
    )
    .await;
    check("alerts?limit=0", "limit: \"0\" is not a number from 1 to 1000").await;
    check(
        "alerts?cursor=zzz",
        "cursor: bad cursor \"zzz\"; use next_cursor of the page before",
    )
    .await;
    check(
        "alerts?stat=firing",
        "stat: unknown; known are state, level, label, acknowledged, category, assigned_to, incident, since, until, limit, cursor",
    )
    .await;
    check("alerts/17", "id: not a UUID: \"17\"").await;
    check(
        "notifications?status=sent",
        "status: unknown \"sent\"; known are waiting, sending, delivered, failed",
    )
    .await;
    check("notifications?alert=17", "alert: not a UUID: \"17\"").await;
    check("rules?type=alert", "type: unknown; no parameter is known here").await;
}
