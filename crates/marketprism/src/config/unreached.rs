//! Receivers without a channel where somebody counts on them: in steps of escalation and on call.

use std::collections::HashSet;

use marketprism_alerts::Config;

/// Remarks on each step and each turn that names a receiver without any channel.
pub fn remark(config: &Config, remarks: &mut Vec<(String, String)>) {
    let receivers = config.receivers.iter();
    let silent: HashSet<&str> = receivers
        .filter(|receiver| receiver.channels.is_empty())
        .map(|receiver| receiver.name.as_str())
        .collect();
    let mut judge = |key: String, name: &String| {
        if silent.contains(name.as_str()) {
            let remark = format!("is {name:?}, a receiver without a channel in use: nobody is reached");
            remarks.push((format!("notification_manager.{key}"), remark));
        }
    };
    for policy in &config.escalation_policies {
        for (step, taken) in policy.steps.iter().enumerate() {
            for (index, target) in taken.notify.iter().enumerate() {
                let key = format!(
                    "escalation_policies.{}.steps[{step}].notify[{index}]",
                    policy.name
                );
                judge(key, target);
            }
        }
    }
    for schedule in &config.schedules {
        for (layer, turns) in schedule.layers.iter().enumerate() {
            for (index, turn) in turns.participants.iter().enumerate() {
                for name in turn.receivers() {
                    let key = format!(
                        "schedules.{}.layers[{layer}].participants[{index}]",
                        schedule.name
                    );
                    judge(key, name);
                }
            }
        }
    }
}
