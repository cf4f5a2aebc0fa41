//! The network forwards what it is given until it fails, and fails as it is told.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what must not fail may panic"
)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use faults::network::{
    CHUNK_BYTES, Chances, Direction, Directions, Fault, Network, Options, Side, Then,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const NEVER: Chances = Chances {
    down_bytes_mean: u64::MAX >> 8,
    up_bytes_mean: u64::MAX >> 8,
    refused_one_in: 0,
    time_max: Duration::ZERO,
    slow_bytes_per_second: 1000,
};

const OPTIONS: Options = Options {
    lines: 2,
    seed: 1,
    chances: NEVER,
    socket_bytes: Some(8192),
};

/// Longer than anything here takes; what takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Long enough that nothing but the test ends it.
const LONG: Duration = Duration::from_secs(600);

/// A time that a test waits for.
const SHORT: Duration = Duration::from_millis(150);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(TIMEOUT, future).await;
    waited.unwrap_or_else(|_| panic!("still waiting for {what}"))
}

/// A network, and the server behind it.
struct Setup {
    network: Network,
    listener: TcpListener,
}

/// Both ends of a link.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

impl Setup {
    async fn new(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Network::start(listener.local_addr().unwrap(), options).unwrap();
        Self { network, listener }
    }

    async fn link(&self, line: usize) -> Ends {
        let client = TcpStream::connect(self.network.address(line))
            .await
            .unwrap();
        let (server, _) = within("the link", self.listener.accept()).await.unwrap();
        Ends { client, server }
    }

    fn counts(&self) -> [u64; 6] {
        let counts = self.network.counts();
        let all = [
            &counts.refused,
            &counts.cut,
            &counts.reset,
            &counts.orphaned,
            &counts.stalled,
            &counts.halved,
        ];
        all.map(|count| count.load(Ordering::Relaxed))
    }
}

impl Ends {
    /// Sends text both ways, and expects it there.
    async fn exchange(&mut self) {
        self.client.write_all(b"to the server").await.unwrap();
        expect(&mut self.server, b"to the server").await;
        self.server.write_all(b"to the client").await.unwrap();
        expect(&mut self.client, b"to the client").await;
    }
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    within("bytes", stream.read_exact(&mut received))
        .await
        .unwrap();
    assert_eq!(received, bytes);
}

/// How a stream ends: everything up to there, and whether by RST.
async fn end(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut received = Vec::new();
    let is_reset = match within("the end", stream.read_to_end(&mut received)).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            true
        }
    };
    (received, is_reset)
}

/// Expects that nothing comes within a time that a link which forwards needs a thousandth of.
async fn expect_silence(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(SHORT, stream.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?}");
}

fn stall(directions: Directions, time: Duration, then: Then) -> Fault {
    Fault::Stall {
        directions,
        time,
        then,
    }
}

#[tokio::test]
async fn a_calm_network_forwards_everything_both_ways_and_the_end_of_each() {
    let setup = Setup::new(OPTIONS).await;
    let Ends {
        mut client,
        mut server,
    } = setup.link(0).await;
    let bytes: Vec<u8> = (0..=250).cycle().take(10 * CHUNK_BYTES).collect();
    let sending = async {
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let ((), (received, is_reset)) = tokio::join!(sending, end(&mut server));
    assert!(received == bytes && !is_reset);

    // The other way still works.
    server.write_all(b"and back").await.unwrap();
    drop(server);
    assert_eq!(end(&mut client).await, (b"and back".to_vec(), false));
    assert_eq!(setup.counts(), [0; 6]);
    let counts = setup.network.counts();
    assert_eq!(counts.bytes.load(Ordering::Relaxed), bytes.len() as u64 + 8);
}

#[tokio::test]
async fn a_cut_is_a_fin_and_a_reset_is_an_rst_for_both() {
    for (fault, is_rst) in [(Fault::Cut, false), (Fault::Reset, true)] {
        let setup = Setup::new(OPTIONS).await;
        let mut ends = setup.link(0).await;
        let mut other = setup.link(1).await;
        ends.exchange().await;
        setup.network.inflict(0, fault);
        assert_eq!(end(&mut ends.client).await, (Vec::new(), is_rst));
        assert_eq!(end(&mut ends.server).await, (Vec::new(), is_rst));
        other.exchange().await;
        let counts = if is_rst {
            [0, 0, 1, 0, 0, 0]
        } else {
            [0, 1, 0, 0, 0, 0]
        };
        assert_eq!(setup.counts(), counts);
    }
}

#[tokio::test]
async fn a_cut_is_a_fin_also_for_who_is_still_sending() {
    let setup = Setup::new(OPTIONS).await;
    let mut ends = setup.link(0).await;
    // More than link and sockets hold, so that something is unread when it is cut.
    setup
        .network
        .inflict(0, stall(Directions::Both, LONG, Then::Continue));
    let bytes = vec![0; 1 << 20];
    assert!(timeout(SHORT, ends.client.write_all(&bytes)).await.is_err());
    setup.network.inflict(0, Fault::Cut);
    assert_eq!(end(&mut ends.client).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_stall_holds_up_its_direction_alone_and_nothing_is_lost() {
    let setup = Setup::new(OPTIONS).await;
    let mut ends = setup.link(0).await;
    ends.exchange().await;
    let time = SHORT * 3;
    setup.network.inflict(
        0,
        stall(Directions::One(Direction::Down), time, Then::Continue),
    );
    let began = Instant::now();
    // What goes up tells that the stall has begun: both are the same task's.
    ends.client.write_all(b"up").await.unwrap();
    expect(&mut ends.server, b"up").await;
    ends.server.write_all(b"down").await.unwrap();
    expect(&mut ends.client, b"down").await;
    assert!(began.elapsed() >= time - Duration::from_millis(5));
    assert_eq!(setup.counts(), [0, 0, 0, 0, 1, 0]);
    ends.exchange().await;
}

#[tokio::test]
async fn a_stall_may_end_in_a_cut_or_a_reset() {
    for (then, is_rst) in [(Then::Cut, false), (Then::Reset, true)] {
        let setup = Setup::new(OPTIONS).await;
        let mut ends = setup.link(0).await;
        ends.exchange().await;
        setup
            .network
            .inflict(0, stall(Directions::Both, SHORT, then));
        let began = Instant::now();
        let (received, is_reset) = end(&mut ends.client).await;
        assert_eq!((received, is_reset), (Vec::new(), is_rst));
        assert!(began.elapsed() >= SHORT - Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_link_that_stalls_holds_a_bounded_number_of_bytes() {
    let setup = Setup::new(OPTIONS).await;
    let mut ends = setup.link(0).await;
    ends.exchange().await;
    setup
        .network
        .inflict(0, stall(Directions::Both, LONG, Then::Continue));
    let chunk = [0; 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(SHORT, ends.server.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 512 * 1024, "somebody takes all of it");
    }
    // When it is calm, all of it comes.
    setup.network.calm();
    expect(&mut ends.client, &vec![0; sent]).await;
}

#[tokio::test]
async fn half_of_a_chunk_is_delivered_and_then_the_rest_or_nothing() {
    for then in [Then::Continue, Then::Cut, Then::Reset] {
        let setup = Setup::new(OPTIONS).await;
        let mut ends = setup.link(0).await;
        ends.exchange().await;
        let fault = Fault::Halve {
            direction: Direction::Up,
            time: SHORT * 3,
            then,
        };
        setup.network.inflict(0, fault);
        // The other direction tells that it has been told.
        ends.server.write_all(b"down").await.unwrap();
        expect(&mut ends.client, b"down").await;
        ends.client.write_all(b"01234567").await.unwrap();
        expect(&mut ends.server, b"0123").await;
        expect_silence(&mut ends.server).await;
        match then {
            Then::Continue => expect(&mut ends.server, b"4567").await,
            Then::Cut => assert_eq!(end(&mut ends.server).await, (Vec::new(), false)),
            Then::Reset => assert_eq!(end(&mut ends.server).await, (Vec::new(), true)),
        }
        assert_eq!(setup.counts()[5], 1);
    }
}

#[tokio::test]
async fn an_orphan_hears_nothing_of_the_other_ends_reset_for_a_while() {
    for side in [Side::Client, Side::Server] {
        let setup = Setup::new(OPTIONS).await;
        let Ends {
            mut client,
            mut server,
        } = setup.link(0).await;
        let (orphan, other) = match side {
            Side::Client => (&mut client, &mut server),
            Side::Server => (&mut server, &mut client),
        };
        let time = SHORT * 3;
        setup.network.inflict(0, Fault::Orphan { side, time });
        assert!(end(other).await.1);
        orphan.write_all(b"is anybody there?").await.unwrap();
        expect_silence(orphan).await;
        assert_eq!(end(orphan).await, (Vec::new(), true));
        assert_eq!(setup.counts(), [0, 0, 0, 1, 0, 0]);
    }
}

#[tokio::test]
async fn a_slow_link_forwards_not_more_than_it_may() {
    let setup = Setup::new(OPTIONS).await;
    let mut ends = setup.link(0).await;
    ends.exchange().await;
    let fault = Fault::Slow {
        bytes_per_second: 1000,
        time: LONG,
    };
    setup.network.inflict(0, fault);
    ends.client.write_all(b"x").await.unwrap();
    expect(&mut ends.server, b"x").await;
    let began = Instant::now();
    ends.server.write_all(&[0; 500]).await.unwrap();
    expect(&mut ends.client, &[0; 500]).await;
    // 500 bytes are ten slices, of which the first goes at once.
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_dropped_line_ends_or_stalls_each_link_and_refuses_new_ones_for_so_long() {
    let setup = Setup::new(OPTIONS).await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(setup.link(0).await);
    }
    let mut other = setup.link(1).await;
    let time = SHORT * 4;
    let began = Instant::now();
    setup.network.drop_line(0, time);
    let mut refused = TcpStream::connect(setup.network.address(0)).await.unwrap();
    assert!(end(&mut refused).await.1);
    other.exchange().await;
    let mut outlived = 0;
    for mut link in links {
        link.server.write_all(b"late").await.unwrap_or_default();
        let mut received = [0; 4];
        if within("the drop", link.client.read_exact(&mut received))
            .await
            .is_ok()
        {
            assert!(began.elapsed() >= time - Duration::from_millis(5));
            outlived += 1;
        }
    }
    let [refused, cut, reset, _, stalled, _] = setup.counts();
    assert!(refused == 1 && cut > 0 && reset > 0 && stalled > 0 && outlived > 0);
    assert!(outlived < stalled, "some are reset when it is over");
    let mut again = within("the line", setup.link(0)).await;
    again.exchange().await;
}

#[tokio::test]
async fn when_the_storm_ends_nothing_is_held_up_any_more() {
    let chances = Chances {
        down_bytes_mean: 1,
        up_bytes_mean: 1,
        time_max: LONG,
        ..NEVER
    };
    let setup = Setup::new(Options { chances, ..OPTIONS }).await;
    setup.network.storm();
    let mut links = Vec::new();
    for _ in 0..50 {
        links.push(setup.link(0).await);
    }
    for link in &mut links {
        link.client
            .write_all(b"to the server")
            .await
            .unwrap_or_default();
    }
    // Half of the faults are planned for bytes that go up, and all of those are due.
    within("faults", async {
        while setup.network.counts().faults() < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    setup.network.calm();
    let mut alive = 0;
    for mut link in links {
        let mut received = [0; 13];
        let read = within("a link", link.server.read_exact(&mut received)).await;
        alive += u32::from(read.is_ok() && received == *b"to the server");
    }
    assert!(alive > 0);
    setup.link(0).await.exchange().await;
}

#[tokio::test]
async fn links_lead_to_where_the_server_is_and_are_refused_while_it_is_nowhere() {
    let setup = Setup::new(OPTIONS).await;
    setup.link(0).await.exchange().await;
    let gone: SocketAddr = {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        closed.local_addr().unwrap()
    };
    setup.network.set_upstream(gone);
    let mut refused = TcpStream::connect(setup.network.address(0)).await.unwrap();
    assert!(end(&mut refused).await.1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    setup.network.set_upstream(listener.local_addr().unwrap());
    let Setup { network, .. } = setup;
    let setup = Setup { network, listener };
    setup.link(0).await.exchange().await;
}
