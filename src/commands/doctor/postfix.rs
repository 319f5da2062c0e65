//! Postfix's configuration, as postconf(1) tells it.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::commands::programs;
use crate::doctor::Finding;
use crate::doctor::checks::GOOD;
use crate::doctor::postfix::Postfix;

/// Returns the configuration of each instance of Postfix; none, and a finding, if postconf(1) cannot be run.
pub fn read(postconf: Option<&Path>, findings: &mut Vec<Finding>) -> Vec<Postfix> {
    let program = postconf.map_or_else(|| programs::find("postconf"), Path::to_owned);
    let ask = |directory: Option<&str>, options: &str| {
        let directory = directory.into_iter().flat_map(|directory| ["-c", directory]);
        let output = Command::new(&program).args(directory).arg(options).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    };
    let read = |directory: Option<&str>| -> io::Result<Postfix> {
        let (main, master, overrides) = (ask(directory, "-x")?, ask(directory, "-Mx")?, ask(directory, "-Px")?);
        Ok(Postfix::parse(&main, &master, &overrides, directory))
    };
    let all = read(None).and_then(|first| {
        let others = first.other_instances();
        let others = others.iter().map(|directory| read(Some(directory))).collect::<io::Result<Vec<_>>>()?;
        Ok([vec![first], others].concat())
    });
    all.unwrap_or_else(|error| {
        findings.push(Finding::problem(
            "no-postconf",
            format!("cannot run {}: {error}", program.display()),
            "Postfix's configuration could not be looked at.",
            format!("run this on the mail server; main.cf should have: {GOOD}"),
        ));
        Vec::new()
    })
}
