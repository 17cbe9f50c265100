//! `network_info`: interfaces, addresses, routes, name servers.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};
use quarterdeck_protocol::command::error_code;
use serde_json::{Value, json};

use super::{fail, result};
use crate::work::WorkEnd;

const INTERFACES_MAX: usize = 64;
const ADDRESSES_MAX: usize = 16;
const ROUTES_MAX: usize = 64;

#[derive(Default)]
struct Interface {
    is_up: bool,
    mac: Option<String>,
    addresses: Vec<String>,
}

pub(super) fn network_info() -> WorkEnd {
    let Ok(found) = getifaddrs() else {
        return fail(error_code::INTERNAL, "cannot read the list of interfaces");
    };
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for item in found {
        let interface = interfaces.entry(item.interface_name).or_default();
        interface.is_up = item.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = item.address else { continue };
        if let Some(link) = address.as_link_addr() {
            interface.mac = link.addr().map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        } else if let Some(ip) = ip_of(&address)
            && interface.addresses.len() < ADDRESSES_MAX
        {
            let prefix = item.netmask.as_ref().and_then(ip_of).map_or(0, prefix_length);
            interface.addresses.push(format!("{ip}/{prefix}"));
        }
    }
    let interfaces: Vec<Value> = interfaces
        .into_iter()
        .take(INTERFACES_MAX)
        .map(|(name, interface)| {
            json!({
                "name": name, "up": interface.is_up, "mac": interface.mac,
                "addresses": interface.addresses,
            })
        })
        .collect();
    result(json!({ "interfaces": interfaces, "routes": routes(), "name_servers": name_servers() }))
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn prefix_length(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    }
}

fn routes() -> Vec<Value> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().skip(1).filter_map(route_v4);
    v4.chain(v6.lines().filter_map(route_v6)).take(ROUTES_MAX).collect()
}

/// The kernel prints addresses in memory order.
fn route_v4(line: &str) -> Option<Value> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |n: usize| {
        let bits = u32::from_str_radix(fields.get(n)?, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let (to, gateway, mask) = (address(1)?, address(2)?, address(7)?);
    Some(json!({
        "to": format!("{to}/{}", mask.to_bits().leading_ones()),
        "via": (!gateway.is_unspecified()).then(|| gateway.to_string()),
        "interface": fields.first()?,
        "metric": fields.get(6)?.parse::<u32>().ok()?,
    }))
}

fn route_v6(line: &str) -> Option<Value> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address =
        |n: usize| Some(Ipv6Addr::from_bits(u128::from_str_radix(fields.get(n)?, 16).ok()?));
    let (to, gateway, interface) = (address(0)?, address(4)?, fields.get(9)?);
    // Of the host's own and local routes there are many, and they say nothing.
    if *interface == "lo" || to.is_multicast() {
        return None;
    }
    Some(json!({
        "to": format!("{to}/{}", u32::from_str_radix(fields.get(1)?, 16).ok()?),
        "via": (!gateway.is_unspecified()).then(|| gateway.to_string()),
        "interface": interface,
        "metric": u32::from_str_radix(fields.get(5)?, 16).ok()?,
    }))
}

fn name_servers() -> Vec<String> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_ascii_whitespace().next())
        .take(16)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_routes_are_read() {
        let route = route_v4("eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0")
            .expect("valid");
        assert_eq!(route["to"], "0.0.0.0/0");
        assert_eq!(route["via"], "192.168.1.1");
        let line = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0";
        assert_eq!(route_v6(line).expect("valid")["to"], "fe80::/64");
    }

    #[test]
    fn this_host_has_interfaces() {
        let outcome = network_info().expect("works").result.expect("a result");
        assert!(outcome["interfaces"].as_array().is_some_and(|list| !list.is_empty()));
    }
}
