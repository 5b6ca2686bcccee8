//! Who may knock: `server.allowed_networks`.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;

use crate::config::Network;

/// `routes` for those who come from this machine or from one of `allowed`; for everybody if there are none.
pub(super) fn guard(routes: Router, allowed: Vec<Network>) -> Router {
    if allowed.is_empty() {
        return routes;
    }
    routes.layer(from_fn(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next| {
            let admitted = admitted(peer.ip(), &allowed);
            async move {
                if admitted {
                    next.run(request).await
                } else {
                    let text = "your network is not among server.allowed_networks\n";
                    (StatusCode::FORBIDDEN, text).into_response()
                }
            }
        },
    ))
}

pub(super) fn admitted(peer: IpAddr, allowed: &[Network]) -> bool {
    peer.to_canonical().is_loopback() || allowed.iter().any(|network| network.contains(peer))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use axum::serve::ListenerExt as _;

    use super::*;

    #[test]
    fn this_machine_and_the_named_networks_come_in() {
        let allowed = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, right) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("192.168.1.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(admitted(peer.parse().unwrap(), &allowed), right, "{peer}");
        }
    }

    /// The peer's address reaches the guard by way of the listener that the server uses.
    #[tokio::test]
    async fn the_guard_learns_where_a_client_comes_from() {
        let routes = Router::new().route("/", get(async || Body::from("in")));
        let routes = guard(routes, vec!["10.0.0.0/8".parse().unwrap()]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener.tap_io(|_| {}), service).await });
        let patience = std::time::Duration::from_secs(2);
        let asking = tokio::task::spawn_blocking(move || crate::cli::health::ask(address, "x", "/", patience));
        let answer = asking.await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("in"), "{answer}");
        serving.abort();
    }
}
