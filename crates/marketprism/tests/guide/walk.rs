//! Which test runs which block of the guide.

use std::fs;

use crate::guide::{Block, GUIDE, blocks, items, read, rows, tree};

/// Every block of the guide, in its order, and the test that holds it to its promise.
const STEPS: &[(&str, &str, &str)] = &[
    (
        "bash",
        "方式一：Docker部署（推荐） / 1. 构建Docker镜像",
        "compose.rs::the_service_is_built_started_and_shown",
    ),
    (
        "yaml",
        "方式一：Docker部署（推荐） / 2. 创建配置文件",
        "compose.rs::the_service_is_built_started_and_shown",
    ),
    (
        "bash",
        "方式一：Docker部署（推荐） / 3. 启动服务",
        "compose.rs::the_service_is_built_started_and_shown",
    ),
    (
        "yaml",
        "方式二：Kubernetes部署 / 1. 创建命名空间",
        "kubernetes.rs::each_manifest_is_shipped_with_all_that_the_guide_says",
    ),
    (
        "yaml",
        "方式二：Kubernetes部署 / 2. 创建ConfigMap",
        "kubernetes.rs::the_configuration_of_the_config_map_runs_and_answers_the_probes",
    ),
    (
        "yaml",
        "方式二：Kubernetes部署 / 3. 创建Deployment",
        "kubernetes.rs::the_configuration_of_the_config_map_runs_and_answers_the_probes",
    ),
    (
        "yaml",
        "方式二：Kubernetes部署 / 4. 创建Service",
        "kubernetes.rs::each_manifest_is_shipped_with_all_that_the_guide_says",
    ),
    (
        "bash",
        "方式二：Kubernetes部署 / 5. 部署到Kubernetes",
        "kubernetes.rs::each_manifest_is_shipped_with_all_that_the_guide_says",
    ),
    (
        "bash",
        "方式三：直接部署 / 1. 安装依赖",
        "direct.rs::the_service_mails_and_tells_slack_with_the_variables_of_its_env_file",
    ),
    (
        "bash",
        "方式三：直接部署 / 2. 配置环境变量",
        "direct.rs::the_service_mails_and_tells_slack_with_the_variables_of_its_env_file",
    ),
    (
        "bash",
        "方式三：直接部署 / 3. 启动服务",
        "direct.rs::the_service_mails_and_tells_slack_with_the_variables_of_its_env_file",
    ),
    (
        "yaml",
        "核心配置项 / 告警管理器配置",
        "configuration.rs::intervals_and_limits_of_alerts_are_those_of_the_file",
    ),
    (
        "yaml",
        "核心配置项 / 通知配置",
        "direct.rs::the_service_mails_and_tells_slack_with_the_variables_of_its_env_file",
    ),
    (
        "yaml",
        "核心配置项 / 异常检测配置",
        "configuration.rs::all_sections_together_are_in_force",
    ),
    (
        "yaml",
        "监控和健康检查 / 日志配置",
        "watching.rs::log_lines_hold_the_fields_of_the_guide_in_its_order",
    ),
    (
        "bash",
        "常见问题 / 1. 服务启动失败",
        "watching.rs::the_log_has_what_the_guide_looks_for",
    ),
    (
        "bash",
        "故障排除 / 日志分析",
        "watching.rs::the_log_has_what_the_guide_looks_for",
    ),
    (
        "yaml",
        "性能优化 / 配置优化",
        "configuration.rs::all_sections_together_are_in_force",
    ),
    (
        "yaml",
        "性能优化 / 资源限制",
        "kubernetes.rs::the_limits_of_the_guide_are_those_of_the_deployment",
    ),
    (
        "yaml",
        "安全配置 / API认证",
        "security.rs::a_login_gives_a_token_for_a_day_and_the_list_keeps_strangers_out",
    ),
    (
        "yaml",
        "安全配置 / HTTPS配置",
        "security.rs::the_port_speaks_https_with_the_files_of_the_guide",
    ),
    (
        "bash",
        "备份和恢复 / 数据备份",
        "backup.rs::what_the_guide_saves_under_load_is_there_again_after_its_restore",
    ),
    (
        "bash",
        "备份和恢复 / 恢复流程",
        "backup.rs::what_the_guide_saves_under_load_is_there_again_after_its_restore",
    ),
    (
        "bash",
        "升级指南 / 版本升级",
        "compose.rs::an_upgrade_keeps_the_alerts",
    ),
];

/// Says where the blocks differ from the steps.
fn mismatch(blocks: &[Block]) -> Option<String> {
    for (number, block) in blocks.iter().enumerate() {
        let place = format!("{GUIDE}:{}", block.line);
        match STEPS.get(number) {
            None => {
                return Some(format!(
                    "{place}: no test claims the block below {:?}",
                    block.heading
                ));
            }
            Some((language, heading, _)) if (*language, *heading) != (&*block.language, &*block.heading) => {
                return Some(format!(
                    "{place}: the {language} block below {heading:?} is awaited in its place, not one of {} below {:?}",
                    block.language, block.heading
                ));
            }
            Some(_) => {}
        }
    }
    let (_, heading, _) = STEPS.get(blocks.len())?;
    Some(format!("{GUIDE} no longer has the block below {heading:?}"))
}

#[test]
fn every_block_of_the_guide_is_claimed_in_its_order_by_a_test_that_is_there() {
    let sources: Vec<(String, String)> = fs::read_dir(tree().join("crates/marketprism/tests/guide"))
        .expect("this folder")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("our own source"))
        })
        .collect();
    assert_eq!(mismatch(&blocks()), None);
    for (_, heading, test) in STEPS {
        let is_asked_for = format!("step(\"{heading}\")");
        let asks = |(name, text): &&(String, String)| name != "walk.rs" && text.contains(&is_asked_for);
        assert!(
            sources.iter().any(|source| asks(&source)),
            "no test asks for {heading:?}"
        );
        let (file, name) = test.split_once("::").expect("file and test");
        let is_there = |(other, text): &&(String, String)| {
            other == file && text.contains(&format!("#[test]\nfn {name}()"))
        };
        assert!(
            sources.iter().any(|source| is_there(&source)),
            "there is no test {test}"
        );
    }
}

#[test]
fn a_block_that_is_new_gone_or_moved_is_noticed() {
    let check = |change: fn(&mut Vec<Block>), said: &str| {
        let mut changed = blocks();
        change(&mut changed);
        let found = mismatch(&changed).unwrap_or_else(|| panic!("not noticed; expected {said:?}"));
        assert!(found.contains(said), "{found}");
    };
    check(
        |blocks| blocks.push(blocks[0].clone()),
        "no test claims the block below",
    );
    check(|blocks| blocks.insert(3, blocks[0].clone()), "in its place");
    check(|blocks| blocks.swap(4, 5), "in its place");
    check(|blocks| blocks[7].language = "sh".to_owned(), "in its place");
    check(|blocks| drop(blocks.pop()), "no longer has the block below");
}

#[test]
fn the_lists_and_the_table_of_the_guide_are_those_that_the_tests_know() {
    let check = |heading: &str, count: usize| assert_eq!(items(heading).len(), count, "below {heading}");
    check("监控和健康检查 / 健康检查端点", 3);
    check("监控和健康检查 / 监控指标", 4);
    for heading in [
        "常见问题 / 2. 告警不发送",
        "常见问题 / 3. 异常检测不工作",
        "常见问题 / 4. 性能问题",
    ] {
        check(heading, 3);
    }
    assert_eq!(rows("配置说明 / 环境变量").len(), 5);
    // Whatever else is in backquotes outside of the blocks would be a promise that nobody looks at.
    let outside = read(GUIDE);
    let outside: Vec<&str> = outside.split("```").step_by(2).collect();
    let quoted = outside.concat().matches('`').count() / 2;
    assert_eq!(
        quoted,
        3 + 4 + 5 + 1,
        "endpoints, metrics, variables, docker-compose.yml"
    );
}
