//! E-mail addresses that any mail server can be given: the node takes no others.

use lettre::Address;

/// The longest e-mail address, in bytes, as it goes out.
const LONGEST: usize = 254;

/// Reads an address as it goes to a mail server: an internationalized domain is in its ASCII form.
///
/// The local part must be plain ASCII without quotes, and the domain a name. The standards know
/// more, which few servers take: `"a b"@example.org`, `ann@[192.0.2.1]`, letters beyond ASCII
/// before the `@`. And of the many ways to write one domain it takes two, besides case: bounds count
/// an address as it is written, so nobody may write the same one in ever new ways.
///
/// # Errors
/// What an address must be, to be put after its name.
pub fn parse(text: &str) -> Result<Address, &'static str> {
    const NO_ADDRESS: &str = "must be an e-mail address of at most 254 characters";
    const NO_DOMAIN: &str = "must have the name of a domain after the @";
    let text = text.trim();
    let address: Address = text.parse().map_err(|_| NO_ADDRESS)?;
    if address.user().starts_with('"') {
        return Err("must have no quotes before the @");
    }
    if !address.user().is_ascii() {
        return Err("must have only ASCII characters before the @");
    }
    let domain = idna::domain_to_ascii(address.domain()).map_err(|_| NO_DOMAIN)?;
    if !is_name(&domain) {
        return Err(NO_DOMAIN);
    }
    let written = address.domain().to_lowercase();
    if written != domain && written != idna::domain_to_unicode(&domain).0 {
        return Err("must have its domain as it is usually written");
    }
    let sent = Address::new(address.user(), &domain).map_err(|_| NO_ADDRESS)?;
    if text.len().max(sent.to_string().len()) > LONGEST { Err(NO_ADDRESS) } else { Ok(sent) }
}

/// Whether a domain is labels of letters, digits and hyphens, and no address of a machine.
fn is_name(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    domain.split('.').all(is_label) && !domain.rsplit('.').next().is_some_and(is_number)
}

/// Whether an address is at `localhost`, where nobody can receive mail.
#[must_use]
pub fn is_at_localhost(address: &Address) -> bool {
    address.domain().eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_goes_out_in_ascii_and_everything_else_is_refused() {
        // 107 characters that are 125 as they go out.
        let umlauts = format!("ann@{}.example", ["ü".repeat(40), "ü".repeat(40)].join("."));
        for (typed, sent) in [
            (" ann@people.example ", "ann@people.example"),
            ("Ann.O'Neil+tag@People.example", "Ann.O'Neil+tag@people.example"),
            ("ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
            ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
            ("admin@localhost", "admin@localhost"),
            ("!#$%&'*+-/=?^_`{|}~@people.example", "!#$%&'*+-/=?^_`{|}~@people.example"),
        ] {
            let read = parse(typed).map(|address| address.to_string());
            assert_eq!(read.as_deref(), Ok(sent), "{typed}");
        }
        let read = parse(&umlauts).map(|address| address.to_string());
        assert!(read.as_ref().is_ok_and(|sent| sent.is_ascii()), "{umlauts}: {read:?}");
        let long_label = format!("ann@{}.example", "a".repeat(64));
        let long = format!("ann@{}example", "people.".repeat(40));
        for typed in [
            "",
            "ann",
            "@people.example",
            "ann@",
            "a b@people.example",
            "ann@people..example",
            "ann@-people.example",
            "ann..lee@people.example",
            ".ann@people.example",
            "ann@people.example\r\nRCPT TO:<bob@people.example>",
            "<ann@people.example>",
            "Ann <ann@people.example>",
            "ann@bob@people.example",
            "\"ann lee\"@people.example",
            "\"ann\"@people.example",
            "ann@[192.0.2.1]",
            "ann@192.0.2.1",
            "ann@[IPv6:::1]",
            "ann@[::1]",
            "ann@::1",
            "änn@people.example",
            "\u{212a}im@people.example",
            "ann@people_.example",
            // All of these are people.example or bücher.example.
            "ann@peo\u{ad}ple.example",
            "ann@\u{ff50}eople.example",
            "ann@people\u{3002}example",
            "ann@peop\u{2113}e.example",
            "ann@bu\u{308}cher.example",
            &long_label,
            &long,
        ] {
            assert!(parse(typed).is_err(), "{typed}: {:?}", parse(typed));
        }
    }

    #[test]
    fn an_address_at_localhost_is_recognised_however_it_is_written() {
        for (address, local) in [
            ("admin@localhost", true),
            (" Ann@LocalHost ", true),
            ("admin@localhost.example", false),
            ("localhost@people.example", false),
        ] {
            assert_eq!(is_at_localhost(&parse(address).unwrap()), local, "{address}");
        }
    }
}
