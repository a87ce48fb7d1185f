//! The guide's configuration: its sections, laid together into one file as their reader would.
//!
//! What the test changes, it changes in the text, and each change must find its place exactly once. The mail server is
//! never the guide's own.

use marketprism_testkit::free_port;

use crate::guide::step;

/// A secret that nobody knows.
pub const JWT_SECRET: &str = "c2f1a8e07b6d4539a1f0e2d3c4b5a697";

/// What the necessary variables of the guide are set to.
pub const VARIABLES: [(&str, &str); 3] = [
    ("SMTP_USERNAME", "ops@example.com"),
    ("SMTP_PASSWORD", "abcd efgh ijkl mnop"),
    ("JWT_SECRET", JWT_SECRET),
];

/// A configuration file that is being written.
#[derive(Clone)]
pub struct Settings(pub String);

impl Settings {
    /// All sections but that of HTTPS, whose files are no reader's; mail goes to a port where nobody listens.
    pub fn of_the_guide() -> Self {
        let sections = [
            step("核心配置项 / 告警管理器配置"),
            step("核心配置项 / 通知配置"),
            step("核心配置项 / 异常检测配置"),
            step("监控和健康检查 / 日志配置"),
            step("性能优化 / 配置优化"),
            step("安全配置 / API认证"),
        ];
        Settings(sections.map(|block| block.text).concat()).with_mail_server(free_port(), "")
    }

    /// Replaces the guide's mail server by one on this machine; `more`: further lines of the channel, each
    /// behind a line break.
    pub fn with_mail_server(self, port: u16, more: &str) -> Self {
        let settings = if self.0.contains("smtp.gmail.com") {
            self.replace("smtp.gmail.com", "127.0.0.1")
        } else {
            self
        };
        let line = settings
            .0
            .lines()
            .find(|line| line.contains("smtp_port:"))
            .expect("the guide names a port")
            .to_owned();
        let indent = &line[..line.len() - line.trim_start().len()];
        settings.replace(&line, &format!("{indent}smtp_port: {port}{more}"))
    }

    /// Replaces a text that stands there once.
    #[track_caller]
    pub fn replace(self, from: &str, to: &str) -> Self {
        assert_eq!(self.0.matches(from).count(), 1, "{from:?} in\n{}", self.0);
        Settings(self.0.replace(from, to))
    }

    /// Adds sections at the end.
    pub fn with(mut self, sections: &str) -> Self {
        self.0 += sections;
        self
    }

    /// Adds a rule file, and lets groups be told after a second. Rules wait for the first look at this machine, so that
    /// comes sooner.
    pub fn with_rules(self, file: &str) -> Self {
        self.replace(
            "notification_manager:\n",
            "notification_manager:\n  route: {group_wait: 1s, group_interval: 1s}\n",
        )
        .with(&format!("rule_files: [{file}]\nhost: {{interval: 1s}}\n"))
    }

    /// Evaluates each second: nothing is told before the first round of all rules is over.
    pub fn at_a_quick_pace(self) -> Self {
        self.replace("evaluation_interval: 30", "evaluation_interval: 1")
    }

    /// Gives the number of the one line that has this text.
    #[track_caller]
    pub fn line_of(&self, text: &str) -> usize {
        let mut lines = (1..).zip(self.0.lines()).filter(|(_, line)| line.contains(text));
        let (number, _) = lines.next().unwrap_or_else(|| panic!("{text:?} is in no line"));
        assert!(lines.next().is_none(), "{text:?} is in several lines");
        number
    }
}
