//! Ranges of addresses, as `10.0.0.0/8` or `192.0.2.7`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of IP addresses in CIDR notation (RFC 4632, RFC 4291 §2.3). A plain address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that must agree: 0 to 32, or to 128.
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is no IPv4 or IPv6 address.
    #[error("no IP address")]
    Address,
    /// The part after the slash is no number of bits that such an address has.
    #[error("no prefix length of such an address")]
    Prefix,
    /// Bits beyond the prefix are set, so it isn't clear what was meant.
    #[error("bits beyond the prefix are set")]
    HostBits,
}

impl Network {
    /// Whether `address` lies in this range. An IPv4 address that arrives mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other))
                    .checked_shr(32 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other))
                    .checked_shr(128 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or(NetworkError::Prefix)?,
            None => bits,
        };
        // What is left of the address when the prefix is shifted out; a shift by all bits leaves nothing.
        let beyond_prefix = match address {
            IpAddr::V4(address) => u128::from(u32::from(address).checked_shl(prefix.into()).unwrap_or(0)),
            IpAddr::V6(address) => u128::from(address).checked_shl(prefix.into()).unwrap_or(0),
        };
        if beyond_prefix != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn contains_what_shares_the_prefix() {
        let cases = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
        ];
        for (range, candidate, expected) in cases {
            assert_eq!(
                network(range).contains(address(candidate)),
                expected,
                "{candidate} in {range}"
            );
        }
    }

    #[test]
    fn refuses_what_is_unclear() {
        assert_eq!("10.0.0.1/8".parse::<Network>(), Err(NetworkError::HostBits));
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("10.0.0.0/".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("localhost".parse::<Network>(), Err(NetworkError::Address));
        assert_eq!(network("192.0.2.0/24").to_string(), "192.0.2.0/24");
    }
}
