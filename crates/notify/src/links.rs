//! Where links in messages lead: our own pages, at the address people reach us by.

use marketprism_model::Id;

/// Makes links to our own pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    external_url: String,
}

impl Links {
    /// Takes the address by which people reach us, such as `https://monitor.example.com`; empty when it is not
    /// configured, and then messages carry no links.
    pub fn new(external_url: &str) -> Self {
        Links {
            external_url: external_url.trim_end_matches('/').to_owned(),
        }
    }

    /// Gives the address itself, without a slash at its end.
    pub fn external_url(&self) -> &str {
        &self.external_url
    }

    /// Gives the page that shows all alerts.
    pub fn all_alerts(&self) -> Option<String> {
        self.absolute("/")
    }

    /// Gives the page that shows one alert.
    pub fn alert(&self, id: Id) -> Option<String> {
        self.absolute(&format!("/alerts/{id}"))
    }

    /// Gives the graph of an expression, as Prometheus writes its generator links.
    pub fn graph(&self, expr: &str) -> String {
        let query: String = form_urlencoded::byte_serialize(expr.as_bytes()).collect();
        format!("{}/prometheus/graph?g0.expr={query}&g0.tab=1", self.external_url)
    }

    fn absolute(&self, path: &str) -> Option<String> {
        (!self.external_url.is_empty()).then(|| format!("{}{path}", self.external_url))
    }
}
