//! The changes that flags ask for, applied to a configuration.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;

use crate::cli::{offline, report};
use crate::config::{self, Config, Destination, Diagnostic, Overrides, Set, Severity, State, text};

/// Changes of destinations; each flag may be repeated.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct Changes {
    /// Remove this destination from every set that has it; can be repeated
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = text::destination_address)]
    remove: Vec<SocketAddr>,
    /// Let this destination drain: no new calls; can be repeated
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = text::destination_address)]
    drain: Vec<SocketAddr>,
    /// Add this destination, an address written as for --to; SET= in front where there are several sets; can be repeated
    #[arg(long, value_name = "[SET=]DESTINATION", value_parser = addition)]
    add: Vec<(Option<String>, Destination)>,
    /// Give this destination another weight; can be repeated
    #[arg(long, value_name = "ADDR[:PORT]=WEIGHT", value_parser = weighting)]
    weight: Vec<(SocketAddr, u32)>,
}

fn addition(written: &str) -> Result<(Option<String>, Destination), String> {
    let parts = written.split_once('=');
    let in_set = parts.map(|(set, rest)| (set, text::destination(rest)));
    match (text::destination(written), in_set) {
        (Ok(destination), _) => Ok((None, destination)),
        (_, Some((set, Ok(destination)))) => Ok((Some(set.to_owned()), destination)),
        // A parameter of a URI is behind a semicolon.
        (_, Some((set, Err(fault)))) if !set.contains(';') => Err(fault.to_string()),
        (Err(fault), _) => Err(fault.to_string()),
    }
}

fn weighting(written: &str) -> Result<(SocketAddr, u32), String> {
    let Some((address, weight)) = written.rsplit_once('=') else {
        return Err("say ADDR[:PORT]=WEIGHT".to_owned());
    };
    let address = text::destination_address(address).map_err(|fault| fault.to_string())?;
    let help = "give 1 to 1000000; for no new calls, --drain ADDR[:PORT]";
    let weight = text::weight(weight).map_err(|fault| fault.help(help).to_string())?;
    Ok((address, weight))
}

impl Changes {
    /// `config` with the changes. What is then wrong with it, and was not
    /// before, is printed as for any configuration; `None` where that is an
    /// error.
    ///
    /// # Errors
    /// A destination or a set that is not there, as text; failures to print.
    pub(super) fn apply(&self, config: &Config) -> std::io::Result<Option<Config>> {
        let mut changed = config.clone();
        self.edit(&mut changed).map_err(std::io::Error::other)?;
        if changed == *config {
            return Ok(Some(changed));
        }
        let mut sets = changed.sets.iter();
        let is_empty = |set: &&Set| set.destinations.is_empty() && set.named.is_empty();
        if let Some(set) = sets.find(is_empty) {
            return Err(std::io::Error::other(format!(
                "--remove: set `{}` would have no destination\n  help: --drain has new calls fare \
                 alike: 503, unless a failure rule takes them",
                set.name
            )));
        }
        let said = |of: &Diagnostic| {
            let line = of.location.as_ref().map(|at| at.text.clone());
            (of.message.clone(), line)
        };
        let known: Vec<_> = look(config).iter().map(said).collect();
        let mut found = look(&changed);
        found.retain(|each| !known.contains(&said(each)));
        report::print(&found)?;
        let good = found.iter().all(|each| each.severity != Severity::Error);
        Ok(good.then_some(changed))
    }

    fn edit(&self, config: &mut Config) -> Result<(), String> {
        for address in &self.remove {
            find(config, *address, "--remove")?;
            for set in &mut config.sets {
                set.destinations.retain(|each| each.address != *address);
            }
        }
        for (set, destination) in &self.add {
            let names: Vec<_> = config.sets.iter().map(|set| set.name.clone()).collect();
            let known = text::first_few(&names);
            let at = match set {
                None if names.len() == 1 => 0,
                None => {
                    let uri = &destination.uri;
                    return Err(format!(
                        "--add {uri}: there are several sets ({known})\n  help: --add '{}={destination}'",
                        names[0]
                    ));
                }
                Some(set) => names.iter().position(|name| name == set).ok_or_else(|| {
                    format!("--add: there is no set `{set}`\n  help: there are {known}")
                })?,
            };
            config.sets[at].destinations.push(destination.clone());
        }
        for address in &self.drain {
            for each in find(config, *address, "--drain")? {
                each.state = State::Draining;
            }
        }
        for (address, weight) in &self.weight {
            for each in find(config, *address, "--weight")? {
                each.weight = *weight;
            }
        }
        Ok(())
    }
}

/// What there is to say of a configuration, found by the same eyes that look at
/// a file.
fn look(config: &Config) -> Vec<Diagnostic> {
    let toml = config::to_toml(config);
    let place = Path::new("the changed configuration");
    let reader = |_: &Path| Ok(toml.clone().into_bytes());
    config::load_with(Some(place), &Overrides::default(), config.workers, &reader).diagnostics
}

/// The destinations of all sets that have `address`; at least one.
fn find<'a>(
    config: &'a mut Config,
    address: SocketAddr,
    flag: &str,
) -> Result<Vec<&'a mut Destination>, String> {
    let all = || config.sets.iter().flat_map(|set| &set.destinations);
    if !all().any(|each| each.address == address) {
        let names = offline::unresolved(&config.sets).into_iter();
        let names = names.map(|name| format!("{name} (a name, not resolved here)"));
        let known = all().map(|each| each.address.to_string()).chain(names);
        let known = text::first_few(known);
        return Err(format!(
            "{flag}: no set has {address}\n  help: there are {known}"
        ));
    }
    let all = config.sets.iter_mut().flat_map(|set| &mut set.destinations);
    Ok(all.filter(|each| each.address == address).collect())
}
