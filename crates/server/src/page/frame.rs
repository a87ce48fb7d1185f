//! What all pages share: head, heading, badges, cards.
//!
//! Everything goes through `maud`, which escapes whatever is not markup of ours.

use marketprism_model::{Level, Timestamp};
use maud::{DOCTYPE, Markup, html};

use super::language::Language;
use super::login::Who;
use super::wording;
use jiff::tz::TimeZone;

/// What a page is drawn for.
pub struct View {
    /// The language.
    pub language: Language,
    /// Whether the language was asked for in the address, so that links must carry it.
    pub is_language_chosen: bool,
    /// The zone of all moments.
    pub zone: TimeZone,
    /// The moment of drawing.
    pub now: Timestamp,
    /// Who looks at it; `None` before the login and where nobody is asked.
    pub who: Option<Who>,
}

impl View {
    /// Gives a link of ours with the chosen language in it.
    pub fn link(&self, path: &str) -> String {
        if !self.is_language_chosen {
            return path.to_owned();
        }
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}lang={}", self.language.tag())
    }

    /// Writes a moment, with how long ago it was.
    pub fn moment(&self, at: Timestamp) -> Markup {
        html! { time datetime=(at) { (wording::moment(&self.zone, at)) } }
    }

    /// Writes how long something lasts, with its beginning as a hint.
    pub fn since(&self, from: Timestamp) -> Markup {
        html! {
            time datetime=(from) title=(wording::moment(&self.zone, from)) {
                (wording::span(self.language.texts(), self.now.since(from)))
            }
        }
    }
}

/// Draws a whole page. `refresh_s` reloads it, `path` is where the other language is found.
pub fn page(view: &View, title: &str, path: &str, refresh_s: Option<u32>, main: &Markup) -> Markup {
    let texts = view.language.texts();
    let (other, other_name) = view.language.other();
    let separator = if path.contains('?') { '&' } else { '?' };
    let is_inside = !path.starts_with(super::login::PATH);
    html! {
        (DOCTYPE)
        html lang=(view.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh_s { meta http-equiv="refresh" content=(seconds); }
                title { (title) " · MarketPrism" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href=(super::assets::STYLE_PATH);
            }
            body {
                header.top {
                    a.brand href=(view.link("/")) { (prism()) span { "MarketPrism" } }
                    nav {
                        @if is_inside {
                            a href=(view.link("/")) { (texts.overview) }
                            a href=(view.link("/graph")) { (texts.expression) }
                        }
                        a href=(format!("{path}{separator}lang={}", other.tag())) lang=(other.tag()) hreflang=(other.tag()) { (other_name) }
                        @if let Some(who) = &view.who { (visitor(view, who)) }
                    }
                }
                main { (main) }
                @if is_inside {
                    footer {
                        (texts.updated) " " (view.moment(view.now)) " " (wording::zone_name(&view.zone, view.now))
                        @if refresh_s.is_some() { " · " (texts.refreshes) }
                    }
                }
            }
        }
    }
}

/// Draws who is logged in, and the way out for whoever has a session to end.
fn visitor(view: &View, who: &Who) -> Markup {
    let texts = view.language.texts();
    html! {
        form.visitor action=(view.link("/logout")) method="post" {
            span.pill title=(texts.logged_in_as) { b { (who.name) } " · " (who.role) }
            @if who.has_session { button type="submit" { (texts.log_out) } }
        }
    }
}

/// Draws a page that says one thing.
pub fn notice(view: &View, text: &str, path: &str, refresh_s: Option<u32>) -> Markup {
    let back = html! { p { a href=(view.link("/")) { "← " (view.language.texts().back) } } };
    let main = html! { section.card { p.empty { (text) } @if path != "/" { (back) } } };
    page(view, text, path, refresh_s, &main)
}

/// Draws the badge of a level: colour and shape both tell it.
pub fn badge(level: Level) -> Markup {
    let priority = level.priority().to_string();
    html! {
        span class=(format!("badge {}", level.as_str())) title=(level.as_str()) { (shape(level)) (priority) }
    }
}

/// Draws the shape of a level: diamond, triangle, circle, square, from worst to mildest.
pub fn shape(level: Level) -> Markup {
    html! {
        svg.shape viewBox="0 0 16 16" aria-hidden="true" {
            @match level {
                Level::Critical => polygon points="8,0 16,8 8,16 0,8" {},
                Level::High => polygon points="8,1 15.5,15 0.5,15" {},
                Level::Medium => circle cx="8" cy="8" r="7" {},
                Level::Low => rect x="2" y="2" width="12" height="12" {},
            }
        }
    }
}

/// Draws one section with its heading and a count.
pub fn card(id: &str, heading: &str, count: Option<usize>, body: &Markup) -> Markup {
    html! {
        section.card id=(id) {
            h2 { (heading) @if let Some(count) = count { " " span.count { (count) } } }
            (body)
        }
    }
}

/// Draws what stands where nothing is.
pub fn empty(text: &str) -> Markup {
    html! { p.empty { (text) } }
}

/// Draws what stands where something could not be read.
pub fn unreadable(view: &View, reason: &str) -> Markup {
    html! { p.fault { (view.language.texts().section_unreadable) " " (reason) } }
}

fn prism() -> Markup {
    html! {
        svg.prism viewBox="0 0 32 32" aria-hidden="true" {
            polygon.glass points="16,4 29,27 3,27" {}
            polyline.ray points="0,20 11,15" {}
            polyline.red points="19,13 32,14" {}
            polyline.amber points="20,15.5 32,18" {}
            polyline.blue points="21,18 32,22" {}
        }
    }
}
