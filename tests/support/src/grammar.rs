//! What several headers that the twin reads have in common: lists, parameters,
//! URIs, hosts, numbers. The rules are numbered there.

use std::net::Ipv6Addr;

use super::{Params, Read, Uri, malformed};

/// Splits a row at its commas; see rule 18.
pub(super) fn split_list(row: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    while at < row.len() {
        at = match row[at] {
            b'"' => quoted_end(row, at).unwrap_or(row.len()),
            b'<' => match row[at..].iter().position(|&octet| octet == b'>') {
                Some(close) => at + close + 1,
                None => row.len(),
            },
            b',' => {
                values.push(trim(&row[begin..at]).to_vec());
                begin = at + 1;
                begin
            }
            _ => at + 1,
        };
    }
    values.push(trim(&row[begin..]).to_vec());
    values
}

/// Where the quoted string that begins at `open` has ended; rule 12.
pub(super) fn quoted_end(value: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            octet if is_control(octet) => return None,
            _ => at += 1,
        }
    }
    None
}

/// `*( SEMI name [ EQUAL value ] )`, to the end.
pub(super) fn params(value: &[u8]) -> Read<Params> {
    let mut params = Params::new();
    let mut rest = trim(value);
    while let Some((b';', after)) = rest.split_first() {
        let (name, after) = leading(trim_start(after), is_token_octet);
        if name.is_empty() {
            return malformed("a parameter has a name");
        }
        rest = trim_start(after);
        let mut content = None;
        if let Some((b'=', after)) = rest.split_first() {
            let (found, after) = param_value(trim_start(after))?;
            content = Some(found.to_vec());
            rest = trim_start(after);
        }
        params.push((text(name).to_ascii_lowercase(), content));
    }
    if !rest.is_empty() {
        return malformed("something that is no parameter");
    }
    Ok(params)
}

pub(super) fn param_value(value: &[u8]) -> Read<(&[u8], &[u8])> {
    if value.first() == Some(&b'"') {
        return match quoted_end(value, 0) {
            Some(end) => Ok(value.split_at(end)),
            None => malformed("a quote is not closed"),
        };
    }
    let (run, rest) = leading(value, |octet| {
        is_token_octet(octet) || b"[]:".contains(&octet)
    });
    if run.is_empty() {
        return malformed("a parameter value is empty");
    }
    Ok((run, rest))
}

/// The value of a parameter that may be there once.
pub(super) fn param(params: &Params, name: &str) -> Read<Option<Option<Vec<u8>>>> {
    let mut found = params.iter().filter(|(each, _)| each == name);
    let first = found.next();
    if found.next().is_some() {
        return malformed("a parameter that may be there once is there twice");
    }
    Ok(first.map(|(_, value)| value.clone()))
}

/// The same, where the value is a token.
pub(super) fn token_param(params: &Params, name: &str) -> Read<Option<Vec<u8>>> {
    match param(params, name)? {
        None => Ok(None),
        Some(Some(value)) if is_token(&value) => Ok(Some(value)),
        Some(_) => malformed("branch and tag are tokens"),
    }
}

/// The scheme of a URI in lower case (RFC 3986 §3.1).
pub fn scheme(uri: &[u8]) -> Option<String> {
    let colon = uri.iter().position(|&octet| octet == b':')?;
    let scheme = &uri[..colon];
    let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || b"+-.".contains(octet);
    (scheme.first()?.is_ascii_alphabetic() && scheme.iter().all(allowed))
        .then(|| text(scheme).to_ascii_lowercase())
}

/// Takes a sip or sips URI apart; `None` where it is none (rule 22).
pub fn sip_uri(uri: &[u8]) -> Option<Uri> {
    let scheme = scheme(uri).filter(|scheme| scheme == "sip" || scheme == "sips")?;
    let rest = &uri[scheme.len() + 1..];
    let parts: Vec<&[u8]> = rest.split(|&octet| octet == b'@').collect();
    let (userinfo, rest) = match parts[..] {
        [rest] => (None, rest),
        [userinfo, rest] if !userinfo.is_empty() => (Some(userinfo.to_vec()), rest),
        _ => return None,
    };
    let (host, port, rest) = host_port(rest, false)?;
    if !matches!(rest.first(), None | Some(b';' | b'?')) {
        return None;
    }
    let mut halves = rest.splitn(2, |&octet| octet == b'?');
    let params = halves.next()?.split(|&octet| octet == b';');
    let params: Params = params
        .filter(|each| !each.is_empty())
        .map(uri_param)
        .collect();
    for name in ["maddr", "transport"] {
        if let Some(value) = param(&params, name).ok()? {
            value.filter(|value| !value.is_empty())?;
        }
    }
    Some(Uri {
        text: uri.to_vec(),
        scheme,
        userinfo,
        host,
        port,
        params,
        has_headers: halves.next().is_some(),
    })
}

pub(super) fn uri_param(param: &[u8]) -> (String, Option<Vec<u8>>) {
    let mut halves = param.splitn(2, |&octet| octet == b'=');
    let name = halves.next().unwrap_or(b"");
    (
        text(name).to_ascii_lowercase(),
        halves.next().map(<[u8]>::to_vec),
    )
}

/// `host [ ":" port ]` and what follows; white space round the colon where the
/// header allows it.
pub(super) fn host_port(value: &[u8], spaces: bool) -> Option<(Vec<u8>, Option<u16>, &[u8])> {
    let skip = |value| if spaces { trim_start(value) } else { value };
    let (host, rest) = host(value)?;
    let rest = skip(rest);
    let Some((b':', after)) = rest.split_first() else {
        return Some((host.to_vec(), None, rest));
    };
    let (digits, rest) = leading(skip(after), |octet| octet.is_ascii_digit());
    let port = number(digits, 65535).filter(|&port| port > 0)?;
    Some((host.to_vec(), Some(port as u16), rest))
}

pub(super) fn host(value: &[u8]) -> Option<(&[u8], &[u8])> {
    if value.first() == Some(&b'[') {
        let close = value.iter().position(|&octet| octet == b']')?;
        let address = std::str::from_utf8(&value[1..close]).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some(value.split_at(close + 1));
    }
    let (name, rest) = leading(value, |octet| {
        octet.is_ascii_alphanumeric() || b"-._".contains(&octet)
    });
    (!name.is_empty()).then_some((name, rest))
}

/// 1*DIGIT up to `max`; any number of digits.
pub(super) fn number(digits: &[u8], max: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
    }
    (value <= max).then_some(value)
}

pub(super) fn is_uri(value: &[u8]) -> bool {
    let forbidden = |&octet: &u8| octet.is_ascii_control() || b" <>\"".contains(&octet);
    !value.is_empty() && !value.iter().any(forbidden)
}

pub(super) fn is_token(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&octet| is_token_octet(octet))
}

pub(super) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet)
}

pub(super) fn is_control(octet: u8) -> bool {
    octet != b'\t' && octet.is_ascii_control()
}

pub(super) fn is_space(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

pub(super) fn leading(value: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = value.iter().position(|&octet| !belongs(octet));
    value.split_at(end.unwrap_or(value.len()))
}

pub(super) fn trim(value: &[u8]) -> &[u8] {
    trim_start(trim_end(value))
}

pub(super) fn trim_start(value: &[u8]) -> &[u8] {
    leading(value, is_space).1
}

pub(super) fn trim_end(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|&octet| !is_space(octet));
    &value[..end.map_or(0, |last| last + 1)]
}

/// One character for each octet: ASCII by the callers' checks but for the names
/// of URI parameters, which this keeps apart too.
pub(super) fn text(octets: &[u8]) -> String {
    octets.iter().map(|&octet| char::from(octet)).collect()
}
