//! The HTML half of a mail: legible on a phone, in dark and light, without any image.
//!
//! Tables and inline styles, because that is what mail programs agree on. Colour never speaks alone: the
//! level also stands there as a word. maud escapes everything that comes from outside.

use maud::{DOCTYPE, Markup, html};

use crate::compose::{Entry, Message};
use crate::slack::colour;

const FONT: &str = "font-family:-apple-system,'Segoe UI','PingFang SC','Microsoft YaHei','Noto Sans CJK SC',Roboto,Helvetica,Arial,sans-serif;";

/// Lays a message out.
pub(crate) fn page(message: &Message) -> String {
    let words = message.language.words();
    let tint = colour(message.state, message.level);
    let markup = html! {
        (DOCTYPE)
        html lang=(words.tag) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light";
                title { (message.title) }
            }
            body style=(format!("margin:0;padding:0;background:#f2f4f7;color:#101828;{FONT}")) {
                table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="background:#f2f4f7" {
                    tr { td align="center" style="padding:16px 8px" {
                        table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"
                            style="max-width:640px;background:#ffffff;border-radius:8px;overflow:hidden;border:1px solid #e4e7ec" {
                            tr { td style=(format!("background:{tint};padding:16px 20px;color:#ffffff")) {
                                div style="font-size:14px;line-height:20px;font-weight:600;opacity:.95" { (message.standing) }
                                div style="font-size:20px;line-height:28px;font-weight:700;word-break:break-word" {
                                    (headline(message))
                                }
                                @if let Some(notice) = &message.notice {
                                    div style="font-size:14px;line-height:21px;margin-top:6px;word-break:break-word" { (notice) }
                                }
                            } }
                            @for entry in &message.entries { (card(entry, message)) }
                            @if message.omitted > 0 || message.link.is_some() { (more(message)) }
                            (footer(message))
                        }
                    } }
                }
            }
        }
    };
    markup.into_string()
}

/// The title without the standing, which is said above it.
fn headline(message: &Message) -> &str {
    let prefix = format!("[{}] ", message.standing);
    message.title.strip_prefix(&prefix).unwrap_or(&message.title)
}

fn card(entry: &Entry, message: &Message) -> Markup {
    let words = message.language.words();
    let tint = colour(entry.state, entry.level);
    html! {
        tr { td style="padding:16px 20px;border-bottom:1px solid #e4e7ec" {
            div style="font-size:16px;line-height:24px;font-weight:600;word-break:break-word" {
                span style=(format!("display:inline-block;padding:0 8px;border-radius:4px;background:{tint};color:#ffffff;font-size:13px;line-height:20px;margin-right:8px;white-space:nowrap")) {
                    (entry.standing)
                }
                (entry.name)
            }
            @if !entry.summary.is_empty() {
                div style="font-size:15px;line-height:22px;margin-top:6px;word-break:break-word" { (entry.summary) }
            }
            @if !entry.description.is_empty() {
                div style="font-size:14px;line-height:21px;margin-top:4px;color:#475467;word-break:break-word;white-space:pre-line" {
                    (entry.description)
                }
            }
            table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"
                style="margin-top:10px;font-size:14px;line-height:21px" {
                @if !entry.place.is_empty() { (row(words.where_, html! { (entry.place) })) }
                (row(words.since, html! { (entry.since) }))
                @if let Some(ended) = &entry.ended { (row(words.ended, html! { (ended) })) }
                @if !entry.value.is_empty() { (row(entry.value_name, html! { b { (entry.value) } })) }
                @if let Some(flapping) = &entry.flapping { (row(words.flapping, html! { (flapping) })) }
                @if let Some(url) = &entry.runbook_url { (row(words.runbook, link(url, url))) }
            }
            @if let Some(action) = &entry.action {
                div style=(format!("margin-top:10px;padding:10px 12px;border-left:4px solid {tint};background:#f9fafb;font-size:14px;line-height:21px;word-break:break-word;white-space:pre-line")) {
                    b { (words.action) (words.colon) } (action)
                }
            }
            @if !entry.labels.is_empty() {
                div style="margin-top:10px;font-size:12px;line-height:20px;color:#475467;word-break:break-word" {
                    (words.labels) (words.colon)
                    @for (name, value) in &entry.labels {
                        span style="display:inline-block;background:#f2f4f7;border-radius:4px;padding:0 6px;margin:0 4px 4px 0" {
                            (name) "=" (value)
                        }
                        " "
                    }
                }
            }
            @if let Some(url) = &entry.link {
                div style="margin-top:10px;font-size:14px;line-height:21px" { (link(url, words.open)) }
            }
        } }
    }
}

fn row(name: &str, value: Markup) -> Markup {
    html! {
        tr {
            td valign="top" style="padding:2px 12px 2px 0;color:#475467;white-space:nowrap;width:1%" { (name) }
            td valign="top" style="padding:2px 0;word-break:break-word" { (value) }
        }
    }
}

fn link(url: &str, text: &str) -> Markup {
    html! { a href=(url) style="color:#175cd3;word-break:break-all" { (text) } }
}

fn more(message: &Message) -> Markup {
    let words = message.language.words();
    html! {
        tr { td style="padding:14px 20px;font-size:15px;line-height:22px;border-bottom:1px solid #e4e7ec" {
            @if message.omitted > 0 { b { (message.language.more(message.omitted)) } }
            @if message.omitted > 0 && message.link.is_some() { " → " }
            @if let Some(url) = &message.link { (link(url, words.open_all)) }
        } }
    }
}

fn footer(message: &Message) -> Markup {
    let words = message.language.words();
    html! {
        tr { td style="padding:12px 20px;font-size:12px;line-height:18px;color:#667085" {
            (words.sent_by) " · " (words.receiver) (words.colon) (message.receiver)
            " · " (words.zone) (words.colon) (message.zone)
        } }
    }
}
