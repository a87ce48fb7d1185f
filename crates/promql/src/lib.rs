//! Parses, plans and evaluates PromQL.
