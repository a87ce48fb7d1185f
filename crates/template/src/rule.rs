//! Templates in rules: labels and annotations that speak of the series that was judged.
//!
//! A text sees `$labels`, `$value`, `$externalLabels` and `$externalURL`, and the same as fields of the dot.
//! An error never stops an alert: it becomes the text.

use std::borrow::Cow;

use marketprism_model::Labels;

use crate::error::TemplateError;
use crate::functions::{Dialect, Environment, SampleValue};
use crate::template::{Limits, Template};
use crate::value::Value;

/// Put before every text; errors name columns as Prometheus does, which counts this in.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

const DATA_TYPE: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value float64 }";

/// What the texts of one observation work on.
#[derive(Clone, Debug)]
pub struct RuleData(Value);

impl RuleData {
    /// Takes the labels of the series, metric name included, its value, and what the installation is called.
    pub fn new(
        labels: &Labels,
        value: impl Into<SampleValue>,
        external_labels: &Labels,
        external_url: &str,
    ) -> Self {
        RuleData(Value::record(
            DATA_TYPE,
            [
                ("Labels", Value::Labels(labels.clone())),
                ("ExternalLabels", Value::Labels(external_labels.clone())),
                ("ExternalURL", Value::string(external_url)),
                ("Value", value.into().to_value()),
            ],
        ))
    }
}

/// One label value or annotation of a rule, parsed once.
#[derive(Debug)]
pub struct RuleText {
    text: String,
    /// `None` when the text holds no action.
    template: Option<Template>,
}

impl RuleText {
    /// Parses a text of the rule `rule_name`.
    pub fn parse(rule_name: &str, text: &str) -> Result<Self, TemplateError> {
        let template = if text.contains("{{") {
            let whole = [PRELUDE, text].concat();
            let name = template_name(rule_name);
            Some(Template::parse(Dialect::Prometheus, &name, &whole, &[])?)
        } else {
            None
        };
        Ok(RuleText {
            text: text.to_owned(),
            template,
        })
    }

    /// Gives the text as it was written.
    pub fn source(&self) -> &str {
        &self.text
    }

    /// Expands the text; an error becomes `<error expanding template: …>`, as in Prometheus.
    pub fn expand(&self, data: &RuleData, environment: &Environment<'_>) -> Cow<'_, str> {
        let Some(template) = &self.template else {
            return Cow::Borrowed(&self.text);
        };
        Cow::Owned(match template.execute(&data.0, environment, &Limits::default()) {
            Ok(text) => text,
            Err(error) => format!(
                "<error expanding template: error executing template {}: {error}>",
                template.name()
            ),
        })
    }
}

/// Parses and expands a text once; for previews. Rules that run keep a [`RuleText`].
pub fn expand_rule_text(
    rule_name: &str,
    text: &str,
    data: &RuleData,
    environment: &Environment<'_>,
) -> String {
    match RuleText::parse(rule_name, text) {
        Ok(parsed) => parsed.expand(data, environment).into_owned(),
        Err(error) => format!(
            "<error expanding template: error parsing template {}: {error}>",
            template_name(rule_name)
        ),
    }
}

fn template_name(rule_name: &str) -> String {
    format!("__alert_{rule_name}")
}

/// Parses and expands any text under small limits; never panics. For fuzzing.
pub fn fuzz(text: &str) {
    let labels = Labels::from_pairs([("instance", "host-1:9100"), ("job", "node")]);
    let environment = Environment {
        now: marketprism_model::Timestamp::from_millis(1_700_000_000_000),
        external_url: "http://localhost:8082/a",
        queries: None,
    };
    let limits = Limits {
        output_bytes_max: 10_000,
        steps_max: 10_000,
        depth_max: 200,
    };
    let data = RuleData::new(&labels, 0.5, &Labels::empty(), environment.external_url);
    let data_of_alerts = Value::record(
        "*template.Data",
        [
            ("CommonLabels", Value::Pairs(labels.clone())),
            ("At", Value::time(environment.now)),
            ("Labels", Value::Labels(labels)),
        ],
    );
    for (dialect, data) in [
        (Dialect::Prometheus, &data.0),
        (Dialect::Alertmanager, &data_of_alerts),
    ] {
        if let Ok(template) = Template::parse(dialect, "fuzz", text, &[]) {
            let _ = template.execute(data, &environment, &limits);
        }
    }
}
