//! `doctor`: looks at the settings, the database, the sockets and Postfix's own configuration, and says what to mend.

mod counts_in;
mod database;
mod files;
mod journal;
mod postfix;
mod predecessor;
mod sockets;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::database::runtime;
use super::output::{print, print_json};
use super::query::PACKAGED_SOCKET;
use super::table::clean;
use crate::cli;
use crate::config::{self, Config, ListenAddress, Sources};
use crate::doctor::checks::{self, Daemon, Target};
use crate::doctor::journal::{Journal, judge};
use crate::doctor::postfix::Postfix;
use crate::doctor::{Finding, Severity};
use crate::exit::{Exit, Failed};
use crate::journal::file;
use crate::policy::limit::Measure;
use crate::store::Store;
use crate::system::privileges;
use files::is_there;
use sockets::{addresses, followed, for_everybody, for_postfix, for_selinux, handed_over, one_socket};

pub fn run(sources: &Sources, options: &cli::Doctor) -> Result<Exit, Failed> {
    let mut findings = Vec::new();
    let config = match config::load(sources) {
        Ok(loaded) => {
            findings.extend(loaded.warnings.iter().map(|warning| setting(Severity::Advice, warning.to_string())));
            Some(loaded.config)
        }
        Err(error) => {
            findings.extend(error.findings.iter().map(|found| setting(Severity::Problem, found.to_string())));
            None
        }
    };
    let instances = postfix::read(options.postconf.as_deref(), &mut findings);
    predecessor::look_for(&mut findings);
    let open = counts_in::open_files().unwrap_or_default();
    if let Some(config) = &config {
        // What follows is seen as the daemon and Postfix see it: as USER, not as root.
        match privileges::become_user(&config.sockets) {
            Ok(_) => {
                look_at(config, &instances, &mut findings)?;
                findings.extend(counts_in::look_at(&config.database, &open));
            }
            Err(error) => findings.push(setting(Severity::Problem, error.to_string())),
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    let ok = findings.iter().all(|finding| finding.severity != Severity::Problem);
    if options.output.json {
        print_json(&json!({ "ok": ok, "findings": findings }))?;
    } else {
        for finding in &findings {
            let mark = match finding.severity {
                Severity::Problem => "PROBLEM",
                Severity::Advice => "advice ",
            };
            let Finding { id, .. } = finding;
            // They quote main.cf and what database servers say.
            let [what, why, mend] = [&finding.what, &finding.why, &finding.mend].map(|text| clean(text));
            print(&format!("{mark} {id}: {what}\n        {why}\n        mend: {mend}\n\n"))?;
        }
        print(if ok { "All is well.\n" } else { "There are problems; mend them and run this again.\n" })?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Findings })
}

fn look_at(config: &Config, instances: &[Postfix], findings: &mut Vec<Finding>) -> Result<(), Failed> {
    if let Err(error) = config::load_lists(config) {
        findings.extend(error.findings.iter().map(|found| setting(Severity::Problem, found.to_string())));
    }
    // Where the daemon listens. Sockets that systemd hands over replace the default, but none that was written.
    let handed = handed_over();
    let told = match (config.sockets.explicit, handed.is_empty()) {
        (false, false) => handed.clone(),
        (false, true) if is_there(Path::new(PACKAGED_SOCKET)) => vec![ListenAddress::Unix(PACKAGED_SOCKET.into())],
        _ => config.sockets.listen.clone(),
    };
    if !config.sockets.explicit && handed.is_empty() {
        findings.extend(told.iter().filter_map(checks::port));
    }
    findings.extend(handed.iter().filter_map(for_everybody));
    let own: Vec<ListenAddress> = told.iter().chain(&handed).cloned().collect();
    let mut asked_by_postfix = Vec::new();
    if !instances.is_empty() {
        // The default stays an address of ours: main.cf asks there in PolicydRateGuard's set-up.
        let ours: Vec<ListenAddress> = own.iter().chain(&config.sockets.listen).map(followed).collect();
        let daemon = Daemon {
            sockets: &ours,
            addresses: &addresses,
            decision_timeout: config.answers.decision_timeout,
            counts_bytes: config.quota.limits.iter().any(|limit| limit.measure == Measure::Bytes),
        };
        findings.extend(checks::configuration(instances, daemon));
        asked_by_postfix.extend(checks::targets(instances, daemon).into_iter().filter_map(|target| match target {
            Target::Unix(path) => Some(ListenAddress::Unix(path)),
            Target::Tcp(_) => addresses(&target).into_iter().next(),
        }));
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for socket in told.iter().chain(&asked_by_postfix) {
        if asked.insert(socket.to_string()) {
            one_socket(socket, &own, findings);
            if let (Some(postfix), ListenAddress::Unix(path)) = (instances.first(), socket)
                && asked_by_postfix.contains(socket)
            {
                for_postfix(path, postfix, config, findings);
                findings.extend(for_selinux(path));
            }
        }
    }
    let in_reach = runtime()?.block_on(database::look_at(config, findings));
    let is_away = database::is_counting_in_memory(config);
    // A database that cannot be reached from here either has its finding already.
    if in_reach && is_away == Some(true) {
        findings.push(database::not_counting(&Store::reading(&config.database).place()));
    }
    // While the database is away it is as it should be.
    let is_found = |found: &Journal| is_away != Some(true) || !matches!(found, Journal::Waiting { .. });
    if let Some(config::Journal { directory, .. }) = &config.journal {
        let found = journal::look_at(directory).into_iter().filter(is_found);
        findings.extend(found.map(|found| judge(&file::path(directory), found)));
    }
    Ok(())
}

fn setting(severity: Severity, what: String) -> Finding {
    Finding {
        severity,
        id: "settings",
        what,
        why: "The daemon does not start with an error in its settings; a warning has no or another effect than meant."
            .to_owned(),
        mend: "correct the settings file; `policyd-rate-guard check` shows what is in effect".to_owned(),
    }
}
