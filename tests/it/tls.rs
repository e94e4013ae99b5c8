//! No trusted connection, no request: certificates that must not be accepted, and one that must.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use alert_ips::{
    defender::transport::{HttpRequest, HttpTransport, Timeouts, Transport},
    domain::journal::Reached,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};
use url::Url;

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), head: Duration::from_secs(5), total: Duration::from_secs(5) };

/// A certificate authority of the test's own.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// Serves HTTPS with a certificate for `name`, expired or not; the task gives what it was asked in HTTP.
    async fn serve(&self, name: &str, expired: bool) -> (SocketAddr, JoinHandle<String>) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return String::new();
            };
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap_or(0);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            let _ = stream.shutdown().await;
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (address, serving)
    }
}

fn request(address: SocketAddr) -> HttpRequest {
    let url = Url::parse(&format!("https://localhost:{}/api/alerts/a/ips", address.port())).unwrap();
    HttpRequest::Get { url, bearer: "canary-token".into() }
}

#[rstest]
#[case::expired("localhost", true, true)]
#[case::wrong_name("elsewhere.example", false, true)]
#[case::unknown_authority("localhost", false, false)]
#[tokio::test]
async fn a_certificate_that_must_not_be_trusted_gets_no_request(
    #[case] name: &str,
    #[case] expired: bool,
    #[case] known_authority: bool,
) {
    let authority = Authority::new();
    let (address, serving) = authority.serve(name, expired).await;
    let ca_pem = known_authority.then_some(authority.1.as_bytes());
    let transport = HttpTransport::new(TIMEOUTS, None, ca_pem, 1).unwrap();
    let failure = transport.send(request(address)).await.unwrap_err();
    assert_eq!(failure.reached(), Reached::Never, "{failure}");
    assert_eq!(serving.await.unwrap(), "");
}

/// The check can fail: with a certificate in order, the request is sent.
#[tokio::test]
async fn a_certificate_of_the_configured_authority_is_trusted() {
    let authority = Authority::new();
    let (address, serving) = authority.serve("localhost", false).await;
    let transport = HttpTransport::new(TIMEOUTS, None, Some(authority.1.as_bytes()), 1).unwrap();
    let response = transport.send(request(address)).await.unwrap();
    assert_eq!((response.status, &*response.body), (200, &b"{}"[..]));
    assert!(serving.await.unwrap().contains("Bearer canary-token"));
}
