//! `manual`: writes the manual pages, made from the command line's definitions and the table of settings, so that they cannot
//! differ from the program. For the packages; hidden from the help.
//!
//! clap_mangen would make a page for each of twenty commands, with `--help` and `--version` in each and helps without their last
//! full stop; here one page has all commands between prose about the daemon.
//!
//! clap_mangen would make a page for each of twenty commands, with `--help` and `--version` in each and helps without their last
//! full stop; here one page has all commands between prose about the daemon.
//!
//! clap_mangen would make a page for each of twenty commands, with `--help` and `--version` in each and helps without their last
//! full stop; here one page has all commands between prose about the daemon.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;
use crate::config::setting::Setting;
use crate::config::settings::SECTIONS;
use crate::exit::{Exit, Failed};

const PROSE_8: &str = include_str!("../../docs/man/policyd-rate-guard.8.in");
const PROSE_5: &str = include_str!("../../docs/man/policyd-rate-guard.env.5.in");
/// The line of [`PROSE_8`] that the commands replace.
const COMMANDS_HERE: &str = ".\\\" ---- commands ----\n";

pub fn run(folder: &Path) -> Result<Exit, Failed> {
    for (name, page) in [("policyd-rate-guard.8", commands_page()), ("policyd-rate-guard.env.5", settings_page())] {
        let path = folder.join(name);
        fs::write(&path, page)
            .map_err(|error| Failed::new(Exit::IoError, format_args!("cannot write {}: {error}", path.display())))?;
    }
    Ok(Exit::Ok)
}

/// policyd-rate-guard(8).
pub fn commands_page() -> String {
    let mut program = Cli::command();
    program.build();
    let about = program.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = heading("POLICYD-RATE-GUARD", 8, "policyd-rate-guard", &about);
    page.push_str(".SH SYNOPSIS\n.B policyd-rate-guard\n[\\fB\\-\\-config\\fR \\fIFILE\\fR] \\fICOMMAND\\fR [\\fIOPTION\\fR...]\n");
    let (before, after) = PROSE_8.split_once(COMMANDS_HERE).unwrap_or((PROSE_8, ""));
    page.push_str(before);
    page.push_str(".SH OPTIONS\n");
    options(&mut page, &program, |_| true);
    page.push_str(".SH COMMANDS\n");
    commands(&mut page, &program, "");
    page.push_str(after);
    page
}

/// policyd-rate-guard.env(5).
pub fn settings_page() -> String {
    let mut page = heading("POLICYD-RATE-GUARD.ENV", 5, "policyd-rate-guard.env", "settings of policyd-rate-guard");
    page.push_str(PROSE_5);
    for section in SECTIONS {
        let _ = writeln!(page, ".SH {}", escaped(&section.title.to_uppercase()));
        for setting in section.settings {
            settings_entry(&mut page, setting);
        }
    }
    page.push_str(".SH SEE ALSO\n.BR policyd-rate-guard (8)\n");
    page
}

fn heading(title: &str, section: u8, name: &str, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {title} {section} \"\" \"policyd-rate-guard {version}\" \"System Administration\"\n.SH NAME\n{} \\- {}\n",
        escaped(name),
        escaped(about)
    )
}

/// Every command that the help shows, with its options; those of commands within commands too.
fn commands(page: &mut String, parent: &Command, prefix: &str) {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let name = format!("{prefix}{}", command.get_name());
        let positionals: String = command.get_positionals().map(|arg| format!(" {}", shown_value(arg))).collect();
        let _ = writeln!(page, ".SS {}{}", escaped(&name), escaped(&positionals));
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        paragraphs(page, &about, ".PP");
        options(page, command, |arg| !arg.is_global_set());
        commands(page, command, &format!("{name} "));
    }
}

fn options(page: &mut String, command: &Command, wanted: impl Fn(&Arg) -> bool) {
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()) && wanted(arg);
    for arg in command.get_arguments().filter(shown) {
        let name = match arg.get_long() {
            Some(long) if arg.get_action().takes_values() => {
                format!("\\fB\\-\\-{}\\fR {}", escaped(long), shown_value(arg))
            }
            Some(long) => format!("\\fB\\-\\-{}\\fR", escaped(long)),
            None => shown_value(arg),
        };
        let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
        let _ = writeln!(page, ".TP\n{short}{name}");
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        // clap takes the last full stop away, but more sentences follow.
        paragraphs(page, &format!("{}.", help.trim_end_matches('.')), ".IP");
        values(page, arg);
    }
}

/// The possible values and the default, as the help shows them.
fn values(page: &mut String, arg: &Arg) {
    if !arg.get_action().takes_values() {
        return;
    }
    let mut facts = Vec::new();
    let possible: Vec<PossibleValue> =
        arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if !possible.is_empty() {
        let shown = |value: &PossibleValue| match value.get_help() {
            Some(help) => format!("{} ({})", value.get_name(), help.to_string().trim_end_matches('.')),
            None => value.get_name().to_owned(),
        };
        facts.push(format!("Possible values: {}.", possible.iter().map(shown).collect::<Vec<_>>().join(", ")));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.concat().is_empty() {
        facts.push(format!("Default: {}.", defaults.join(" ")));
    }
    if !facts.is_empty() {
        let _ = writeln!(page, "{}", line(&facts.join(" ")));
    }
}

fn shown_value(arg: &Arg) -> String {
    let names = arg.get_value_names().map(|names| names.join(" "));
    format!("\\fI{}\\fR", escaped(&names.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())))
}

fn settings_entry(page: &mut String, setting: &Setting) {
    let _ = writeln!(page, ".TP\n.B {}", escaped(setting.name));
    paragraphs(page, setting.help, ".IP");
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let restart = if setting.reload { "" } else { " A change takes a restart." };
    let chosen = setting.chosen().map(|chosen| format!("; the packaged settings file sets {chosen}"));
    let facts =
        format!("Allowed: {}. Default: {default}{}.{restart}", setting.kind.allowed(), chosen.unwrap_or_default());
    let _ = writeln!(page, ".IP\n{}", line(&facts));
}

/// `between` begins each paragraph but the first.
fn paragraphs(page: &mut String, text: &str, between: &str) {
    for (number, paragraph) in text.split("\n\n").enumerate() {
        if number > 0 {
            let _ = writeln!(page, "{between}");
        }
        let _ = writeln!(page, "{}", line(paragraph));
    }
}

/// Returns a text as one input line, which roff wraps.
fn line(text: &str) -> String {
    let text = escaped(&text.replace('\n', " "));
    // A dot or a quote at the start of a line would be a request to roff.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    /// Each command's own options stand in its own section: another's of the same name is no entry.
    #[test]
    fn every_command_option_and_setting_has_an_entry() {
        fn look(parent: &Command, prefix: &str, page: &str) {
            for command in parent.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
                let name = format!("{prefix}{}", command.get_name());
                let begin = format!(".SS {}", escaped(&name));
                let (_, section) = page.split_once(&begin).unwrap_or_else(|| panic!("{name} has no section"));
                let section = section.split("\n.S").next().unwrap();
                for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
                    let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else {
                        continue;
                    };
                    let entry = format!("\\fB\\-\\-{}\\fR", escaped(long));
                    assert!(section.contains(&entry), "{name} --{long} is not in\n{section}");
                }
                look(command, &format!("{name} "), page);
            }
        }
        let mut program = Cli::command();
        program.build();
        look(&program, "", &commands_page());
        for setting in settings::all() {
            assert!(settings_page().contains(&format!(".B {}\n", escaped(setting.name))), "{}", setting.name);
        }
        assert!(settings_page().contains("Default: reset; the packaged settings file sets 24h."));
    }

    #[test]
    fn possible_values_and_defaults_are_those_of_the_help() {
        fn look(command: &Command, page: &str) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_hide_set()) {
                for value in arg.get_possible_values() {
                    assert!(page.contains(&escaped(value.get_name())), "{}: {}", command.get_name(), value.get_name());
                }
                for default in arg.get_default_values().iter().filter(|default| !default.is_empty()) {
                    let default = escaped(&format!("Default: {}.", default.to_string_lossy()));
                    assert!(page.contains(&default), "{} {}: {default}", command.get_name(), arg.get_id());
                }
            }
            command.get_subcommands().for_each(|command| look(command, page));
        }
        let page = commands_page();
        let mut program = Cli::command();
        program.build();
        look(&program, &page);
        let by = page.split_once("\\fB\\-\\-by\\fR").and_then(|(_, rest)| rest.split_once(".TP")).unwrap().0;
        let told = "What to rank by.\nPossible values: recipients, messages, blocked (Messages that were held or refused), networks \
                    (Networks that the sender was seen from). Default: recipients.";
        assert!(by.contains(told), "{by}");
    }
}
