//! Looks settings up, has their values read, and notes what is wrong with them.

use crate::config::finding::{Finding, Origin, Severity, shown};
use crate::config::setting::Setting;
use crate::config::settings;
use crate::config::sources::{Given, Values};
use crate::config::values::Parsed;

/// A setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: &'static str,
    /// As it may be shown; `(set)` for a secret, empty if nothing is set.
    pub value: String,
    pub origin: Origin,
}

/// The error is among the findings already; continue with the next setting.
#[derive(Debug, Clone, Copy)]
pub struct Reported;

pub type Checked<T> = Result<T, Reported>;

pub struct Checker<'a> {
    pub values: &'a Values,
    pub findings: Vec<Finding>,
    pub effective: Vec<Effective>,
}

impl Checker<'_> {
    /// What was given for a setting. None also for an empty value.
    pub fn given(&self, name: &str) -> Option<&Given> {
        self.values.given.get(name).filter(|given| !given.text.is_empty())
    }

    /// Returns a setting's value, or its default.
    pub fn get<T>(&mut self, name: &'static str, parse: fn(&str, &Setting) -> Parsed<T>) -> Checked<T> {
        match self.optional(name, parse)? {
            Some(value) => Ok(value),
            None => {
                let setting = self.row(name)?;
                self.in_effect(name, setting.default.to_owned());
                parse(setting.default, setting).or_else(|message| self.fail(name, message))
            }
        }
    }

    /// Returns the value that was given for a setting, if one was.
    pub fn optional<T>(&mut self, name: &'static str, parse: fn(&str, &Setting) -> Parsed<T>) -> Checked<Option<T>> {
        let setting = self.row(name)?;
        let Some(given) = self.given(name).cloned() else {
            self.effective.push(Effective { name, value: String::new(), origin: Origin::Default });
            return Ok(None);
        };
        let value = parse(&given.text, setting).or_else(|message| self.fail(name, message))?;
        let shown = if setting.secret { "(set)".to_owned() } else { shown(&given.text) };
        self.effective.push(Effective { name, value: shown, origin: given.origin });
        Ok(Some(value))
    }

    /// Notes the value in effect of a setting that was not given.
    pub fn in_effect(&mut self, name: &str, value: String) {
        if let Some(effective) = self.effective.iter_mut().find(|effective| effective.name == name) {
            effective.value = value;
        }
    }

    fn row(&mut self, name: &str) -> Checked<&'static Setting> {
        settings::find(name).map_or_else(|| self.fail(name, "is missing in the table of settings: a bug"), Ok)
    }

    pub fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.tell(Severity::Warning, name, message.into());
    }

    pub fn fail<T>(&mut self, name: &str, message: impl Into<String>) -> Checked<T> {
        self.tell(Severity::Error, name, message.into());
        Err(Reported)
    }

    fn tell(&mut self, severity: Severity, name: &str, message: String) {
        let given = self.given(name);
        let secret = settings::find(name).is_none_or(|setting| setting.secret);
        let origin = given.map(|given| given.origin.clone());
        let value = given.filter(|_| !secret).map(|given| shown(&given.text));
        self.findings.push(Finding { severity, origin, name: Some(name.to_owned()), value, message });
    }
}
