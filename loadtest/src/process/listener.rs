//! Which process listens on an address of this machine, so that nobody has to look its id up.

use std::fs;
use std::net::SocketAddr;

/// The process that listens on this port of this machine, as far as one may see it.
///
/// When several share the socket, it is the one that started the others.
pub(crate) fn find(address: SocketAddr) -> Option<u32> {
    if !address.ip().is_loopback() {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inodes: Vec<u64> = tables
        .iter()
        .flatten()
        .flat_map(|table| listening_inodes(table, address.port()))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let parents = super::all_parents();
    let owners: Vec<(u32, u32)> = parents
        .into_iter()
        .filter(|(pid, _)| owns_any(*pid, &inodes))
        .collect();
    eldest(&owners)
}

/// The first whose parent is none of them.
fn eldest(owners: &[(u32, u32)]) -> Option<u32> {
    let is_owner = |pid: u32| owners.iter().any(|(owner, _)| *owner == pid);
    let mut eldest = owners.iter().filter(|(_, parent)| !is_owner(*parent));
    eldest.next().map(|(pid, _)| *pid)
}

/// The sockets of a table that listen on a port.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let inode = |line: &str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let is_it = state == LISTENING && u16::from_str_radix(local_port, 16) == Ok(port);
        fields.nth(5)?.parse().ok().filter(|_| is_it)
    };
    table.lines().filter_map(inode).collect()
}

fn owns_any(pid: u32, inodes: &[u64]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let links = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    let mut sockets = links.filter_map(|link| {
        let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse::<u64>().ok()
    });
    sockets.any(|socket| inodes.contains(&socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(find(address), Some(std::process::id()));
        assert_eq!(
            find(SocketAddr::new([192, 0, 2, 1].into(), address.port())),
            None
        );
    }

    #[test]
    fn a_table_names_the_sockets_that_listen() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 x\n   \
             1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 x\n   \
             2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 x\n";
        assert_eq!(listening_inodes(table, 8080), [4711]);
        assert_eq!(listening_inodes(table, 8082), [0_u64; 0]);
        assert_eq!(listening_inodes("nonsense", 8080), [0_u64; 0]);
    }

    #[test]
    fn of_processes_that_share_a_socket_it_is_the_parent() {
        assert_eq!(eldest(&[(7, 5), (5, 1), (8, 5)]), Some(5));
        assert_eq!(eldest(&[]), None);
    }
}
