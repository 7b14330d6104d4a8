use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};

use super::*;
use crate::config::matcher::{FullRegex, StringMatcher, StringPattern};
use crate::config::tls::{SanKind, SanMatcher, TrustDomain};

/// Midnight of the first of July 2026; the test's certificates are valid all that year.
const NOW: u64 = 1_782_864_000;

/// A CA.
struct Ca {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    fn new(name: &str) -> Ca {
        Ca::root(ca_params(name))
    }

    fn root(params: CertificateParams) -> Ca {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Ca {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn intermediate(&self, name: &str) -> Ca {
        let (params, key) = (ca_params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Ca {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn leaf(&self, names: &[SanType]) -> CertificateDer<'static> {
        self.sign(&leaf_params(names))
    }

    /// A revocation list, valid all the year, with these serial numbers.
    fn crl(&self, revoked: &[u8]) -> String {
        let date = rcgen::date_time_ymd(2026, 2, 1);
        let entry = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: date,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date,
            next_update: rcgen::date_time_ymd(2026, 12, 1),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn leaf_params(names: &[SanType]) -> CertificateParams {
    let mut params = params("leaf");
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn trusting(ca: &Ca) -> ValidationContext {
    ValidationContext {
        trusted_ca_pem: Some(ca.pem.clone().into_bytes()),
        ..ValidationContext::default()
    }
}

fn matcher(kind: SanKind, pattern: StringPattern) -> SanMatcher {
    SanMatcher { kind, oid: "".into(), matcher: StringMatcher { pattern, ignore_case: false } }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn verifier(context: &ValidationContext) -> Verifier {
    Verifier::new(context, &At::resource("listener", "a")).unwrap()
}

/// The rule that a chain breaks, and why; for a client now.
fn check(context: &ValidationContext, chain: &[CertificateDer<'_>]) -> Result<(), (Rule, String)> {
    let verified = verifier(context).verify(chain, Peer::Client, at(NOW));
    verified.map_err(|failure| (failure.rule, failure.to_string()))
}

fn refused(context: &ValidationContext, chain: &[CertificateDer<'_>]) -> (Rule, String) {
    check(context, chain).expect_err("it breaks a rule")
}

#[test]
fn a_chain_leads_to_a_trusted_ca_or_is_refused() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let middle = ca.intermediate("middle");
    let context = trusting(&ca);
    assert_eq!(check(&context, &[ca.leaf(&[])]), Ok(()));
    assert_eq!(check(&context, &[middle.leaf(&[]), middle.der.clone()]), Ok(()));
    assert_eq!(
        refused(&context, &[other.leaf(&[uri("spiffe://a/b"), dns("a.test")])]),
        (
            Rule::Chain,
            "verify cert failed: X509_verify_cert: certificate verification error: \
             unable to get local issuer certificate; the peer presents \
             subject \"CN=leaf\", URI \"spiffe://a/b\", DNS \"a.test\""
                .into()
        )
    );
    // Without the certificate between, and with the CA that signed the other one of the same name.
    assert_eq!(refused(&context, &[middle.leaf(&[])]).0, Rule::Chain);
    assert_eq!(refused(&context, &[Ca::new("ca").leaf(&[])]).0, Rule::Chain);
    // A certificate between that is trusted itself suffices.
    assert_eq!(check(&trusting(&middle), &[middle.leaf(&[])]), Ok(()));
    assert_eq!(refused(&context, &[]).0, Rule::Chain);
    assert_eq!(refused(&context, &[CertificateDer::from(vec![1, 2, 3])]).0, Rule::Chain);
}

#[test]
fn a_leaf_that_is_trusted_itself_needs_no_chain() {
    let mut params = leaf_params(&[dns("a.test")]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = Ca::root(params);
    let context = trusting(&own);
    assert_eq!(check(&context, std::slice::from_ref(&own.der)), Ok(()));
    let later =
        verifier(&context).verify(std::slice::from_ref(&own.der), Peer::Client, at(NOW * 2));
    assert!(later.unwrap_err().to_string().contains("certificate has expired"));
}

#[test]
fn certificates_count_while_they_are_valid() {
    let ca = Ca::new("ca");
    let mut params = leaf_params(&[]);
    params.not_after = rcgen::date_time_ymd(2026, 6, 1);
    let over = ca.sign(&params);
    params.not_before = rcgen::date_time_ymd(2026, 9, 1);
    params.not_after = rcgen::date_time_ymd(2026, 10, 1);
    let early = ca.sign(&params);
    let mut old_ca = ca_params("old ca");
    old_ca.not_after = rcgen::date_time_ymd(2026, 6, 1);
    let old_ca = Ca::root(old_ca);
    let context = trusting(&ca);
    let allowing = ValidationContext { allow_expired: true, ..trusting(&ca) };
    for (leaf, why) in [(over, "certificate has expired"), (early, "certificate is not yet valid")]
    {
        let text = refused(&context, std::slice::from_ref(&leaf)).1;
        assert!(text.contains(why), "{text}");
        assert_eq!(check(&allowing, &[leaf]), Ok(()));
    }
    let under_old = old_ca.leaf(&[]);
    let text = refused(&trusting(&old_ca), std::slice::from_ref(&under_old)).1;
    assert!(text.contains("certificate has expired"), "{text}");
    let allowing = ValidationContext { allow_expired: true, ..trusting(&old_ca) };
    assert_eq!(check(&allowing, &[under_old]), Ok(()));
}

#[test]
fn keys_are_for_what_the_certificate_says() {
    let ca = Ca::new("ca");
    let context = trusting(&ca);
    let mut params = leaf_params(&[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = ca.sign(&params);
    let text = refused(&context, std::slice::from_ref(&server)).1;
    assert!(text.contains("unsupported certificate purpose"), "{text}");
    assert_eq!(verifier(&context).verify(&[server], Peer::Server, at(NOW)), Ok(()));
    // What is no CA's signs nothing, and what is one's is nobody's own.
    let key = KeyPair::generate().unwrap();
    let params = leaf_params(&[]);
    let signed = params.signed_by(&key, &ca.issuer).unwrap().der().clone();
    let no_ca = Issuer::new(params, key);
    let below = leaf_params(&[]).signed_by(&KeyPair::generate().unwrap(), &no_ca).unwrap();
    assert_eq!(refused(&context, &[below.der().clone(), signed]).0, Rule::Chain);
    assert_eq!(refused(&context, &[ca.sign(&ca_params("leaf"))]).0, Rule::Chain);
}

#[test]
fn the_depth_counts_what_stands_between() {
    let ca = Ca::new("ca");
    let first = ca.intermediate("first");
    let second = first.intermediate("second");
    let chain = [second.leaf(&[]), second.der.clone(), first.der.clone()];
    let within = |max: u32| {
        let context = ValidationContext { max_verify_depth: Some(max), ..trusting(&ca) };
        check(&context, &chain)
    };
    assert_eq!(within(3), Ok(()));
    assert!(within(2).unwrap_err().1.contains("certificate chain too long"));
}

#[test]
fn names_match_by_kind_and_pattern() {
    let ca = Ca::new("ca");
    let names = [
        uri("spiffe://td/ns/a/sa/b"),
        dns("*.web.test"),
        SanType::Rfc822Name("a@b.test".try_into().unwrap()),
        SanType::IpAddress([10, 0, 0, 7].into()),
    ];
    let leaf = ca.leaf(&names);
    use SanKind::*;
    use StringPattern::*;
    let regex = |text: &str| {
        let whole = format!(r"\A(?:{text})\z");
        Regex(FullRegex(::regex::Regex::new(&whole).unwrap()))
    };
    for (kind, pattern, expected) in [
        (Uri, Exact("spiffe://td/ns/a/sa/b".into()), true),
        (Uri, Exact("spiffe://td/ns/a/sa/bb".into()), false),
        (Uri, Exact("SPIFFE://td/ns/a/sa/b".into()), false),
        (Uri, Exact("spiffe://td/ns/a/sa/b/".into()), false),
        (Uri, Exact("spiffe://td/ns/a/sa/%62".into()), false),
        (Uri, Prefix("spiffe://td/".into()), true),
        (Uri, Prefix("spiffe://other/".into()), false),
        (Uri, Suffix("/sa/b".into()), true),
        (Uri, Contains("/ns/a/".into()), true),
        (Uri, regex("spiffe://td/ns/[a-z]+/sa/b"), true),
        (Uri, regex("spiffe://td/ns/[a-z]+"), false),
        (Dns, Exact("one.web.test".into()), true),
        (Dns, Exact("a.one.web.test".into()), false),
        (Dns, Exact("spiffe://td/ns/a/sa/b".into()), false),
        (Dns, Suffix(".web.test".into()), true),
        (Email, Exact("a@b.test".into()), true),
        (Ip, Exact("10.0.0.7".into()), true),
        (Ip, Prefix("10.1.".into()), false),
    ] {
        let told = format!("{kind:?} {pattern:?}");
        let subject_alt_names = vec![matcher(kind, pattern)];
        let context = ValidationContext { subject_alt_names, ..trusting(&ca) };
        let rule = check(&context, std::slice::from_ref(&leaf)).map_err(|(rule, _)| rule);
        assert_eq!(rule, if expected { Ok(()) } else { Err(Rule::Names) }, "{told}");
    }
    let subject_alt_names =
        vec![matcher(Uri, Prefix("spiffe://x/".into())), matcher(Dns, Exact("x".into()))];
    let context = ValidationContext { subject_alt_names, ..trusting(&ca) };
    assert_eq!(
        refused(&context, &[ca.leaf(&[uri("spiffe://a/b")])]).1,
        "verify cert failed: SAN matcher: expected URI prefix \"spiffe://x/\" or DNS exact \"x\"; \
         the peer presents subject \"CN=leaf\", URI \"spiffe://a/b\""
    );
    // A common name is no name.
    let subject_alt_names = vec![matcher(Dns, Exact("leaf".into()))];
    let context = ValidationContext { subject_alt_names, ..trusting(&ca) };
    assert_eq!(refused(&context, &[ca.leaf(&[])]).0, Rule::Names);
}

#[test]
fn other_names_are_found_by_their_object_identifier() {
    let ca = Ca::new("ca");
    let id = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    let leaf = [ca.leaf(&[SanType::OtherName((id, "a@td.test".into()))])];
    let with = |oid: &str, text: &str| {
        let expected = SanMatcher {
            oid: oid.into(),
            ..matcher(SanKind::OtherName, StringPattern::Suffix(text.into()))
        };
        check(&ValidationContext { subject_alt_names: vec![expected], ..trusting(&ca) }, &leaf)
            .map_err(|(rule, _)| rule)
    };
    assert_eq!(with("1.3.6.1.4.1.311.20.2.3", "@td.test"), Ok(()));
    assert_eq!(with("1.3.6.1.4.1.311.20.2.3", "@other.test"), Err(Rule::Names));
    assert_eq!(with("1.3.6.1.4.1.311.20.2", "@td.test"), Err(Rule::Names));
}

#[test]
fn a_name_with_a_nul_is_never_the_expected_one() {
    let ca = Ca::new("ca");
    let name = SanType::DnsName("a.test\0.evil".try_into().unwrap());
    let leaf = ca.leaf(&[name]);
    for pattern in [
        StringPattern::Exact("a.test".into()),
        StringPattern::Prefix("a.test".into()),
        StringPattern::Suffix(".evil".into()),
    ] {
        let subject_alt_names = vec![matcher(SanKind::Dns, pattern)];
        let context = ValidationContext { subject_alt_names, ..trusting(&ca) };
        let (rule, text) = refused(&context, std::slice::from_ref(&leaf));
        assert_eq!(rule, Rule::Names);
        assert!(text.contains("DNS \"a.test\\0.evil\""), "{text}");
    }
}

#[test]
fn digests_name_certificates_or_keys() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf(&[]);
    let sha256 = |bytes: &[u8]| <[u8; 32]>::try_from(digest(&SHA256, bytes).as_ref()).unwrap();
    let (of_leaf, of_key) = (sha256(&leaf), sha256(Parsed::new(&leaf).unwrap().spki()));
    let context = |certificates: &[[u8; 32]], keys: &[[u8; 32]]| ValidationContext {
        certificate_hashes: certificates.to_vec(),
        spki_hashes: keys.to_vec(),
        ..ValidationContext::default()
    };
    let leaf = [leaf];
    assert_eq!(check(&context(&[[1; 32], of_leaf], &[]), &leaf), Ok(()));
    assert_eq!(check(&context(&[], &[of_key]), &leaf), Ok(()));
    assert_eq!(check(&context(&[[1; 32]], &[of_key]), &leaf), Ok(()));
    let (rule, text) = refused(&context(&[[1; 32]], &[of_leaf]), &leaf);
    assert_eq!(rule, Rule::Digest);
    assert!(text.contains("cert hash and spki"), "{text}");
    assert!(verifier(&context(&[], &[of_key])).needs_certificate());
}

#[test]
fn revoked_certificates_are_refused() {
    let ca = Ca::new("ca");
    let middle = ca.intermediate("middle");
    let serial = |number: u8| {
        let mut params = leaf_params(&[]);
        params.serial_number = Some(SerialNumber::from(vec![number]));
        params
    };
    let with = |lists: &[String], leaf_only: bool| ValidationContext {
        crl_pem: Some(lists.concat().into_bytes()),
        crl_of_leaf_only: leaf_only,
        ..trusting(&ca)
    };
    let list = ca.crl(&[7]);
    let context = with(std::slice::from_ref(&list), false);
    assert_eq!(check(&context, &[ca.sign(&serial(8))]), Ok(()));
    let text = refused(&context, &[ca.sign(&serial(7))]).1;
    assert!(text.contains("certificate revoked"), "{text}");
    // Every certificate must be covered, unless only the leaf's need be.
    let below = [middle.sign(&serial(7)), middle.der.clone()];
    let text = refused(&context, &below).1;
    assert!(text.contains("unable to get certificate CRL"), "{text}");
    let own = middle.crl(&[1]);
    assert_eq!(check(&with(std::slice::from_ref(&own), true), &below), Ok(()));
    assert_eq!(check(&with(&[list, own], false), &below), Ok(()));
    // A list that is over says nothing.
    let late =
        verifier(&context).verify(&[ca.sign(&serial(8))], Peer::Client, at(NOW + 160 * 86_400));
    assert!(late.unwrap_err().to_string().contains("CRL has expired"));
    let bad = with(&["-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".into()], false);
    assert!(Verifier::new(&bad, &At::resource("listener", "a")).is_err());
}

fn spiffe(domains: &[(&str, &Ca)]) -> ValidationContext {
    let domain = |(name, ca): &(&str, &Ca)| TrustDomain {
        name: (*name).into(),
        bundle_pem: ca.pem.clone().into_bytes(),
    };
    ValidationContext {
        spiffe: Some(domains.iter().map(domain).collect()),
        ..ValidationContext::default()
    }
}

#[test]
fn each_trust_domain_speaks_for_itself_only() {
    let (one, two) = (Ca::new("one"), Ca::new("two"));
    let context = spiffe(&[("one.test", &one), ("two.test", &two)]);
    assert_eq!(check(&context, &[one.leaf(&[uri("spiffe://one.test/a")])]), Ok(()));
    assert_eq!(check(&context, &[two.leaf(&[uri("spiffe://two.test/a"), dns("x.test")])]), Ok(()));
    for (leaf, why) in [
        (one.leaf(&[uri("spiffe://two.test/a")]), "unable to get local issuer certificate"),
        (
            one.leaf(&[uri("spiffe://three.test/a")]),
            "SPIFFE: no trust bundle for trust domain \"three.test\", only for [\"one.test\", \"two.test\"]",
        ),
        (one.leaf(&[uri("SPIFFE://one.test/a")]), "the leaf's URI name is no SPIFFE ID"),
        (one.leaf(&[uri("spiffe://one.test")]), "the leaf's URI name is no SPIFFE ID"),
        (one.leaf(&[dns("one.test")]), "exactly one URI name"),
        (
            one.leaf(&[uri("spiffe://one.test/a"), uri("spiffe://one.test/b")]),
            "exactly one URI name",
        ),
    ] {
        let (rule, text) = refused(&context, &[leaf]);
        assert_eq!(rule, Rule::Chain);
        assert!(text.contains(why), "{text}");
    }
    let names = vec![matcher(SanKind::Uri, StringPattern::Prefix("spiffe://one.test/b".into()))];
    let context = ValidationContext { subject_alt_names: names, ..context };
    assert_eq!(refused(&context, &[one.leaf(&[uri("spiffe://one.test/a")])]).0, Rule::Names);
    // Who is asked for a name needs a certificate; who is asked for a trust domain only, does not.
    assert!(verifier(&context).needs_certificate());
    assert!(!verifier(&spiffe(&[("td", &one)])).needs_certificate());
}

#[test]
fn an_identity_signs_nothing_but_handshakes() {
    let ca = Ca::new("ca");
    let context = spiffe(&[("td", &ca)]);
    let mut params = leaf_params(&[uri("spiffe://td/a")]);
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    assert!(refused(&context, &[ca.sign(&params)]).1.contains("may sign for a CA"));
    params.key_usages.clear();
    assert!(refused(&context, &[ca.sign(&params)]).1.contains("does not say its key's usage"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert!(refused(&context, &[ca.sign(&params)]).1.contains("the leaf is or may sign for a CA"));
}

#[test]
fn what_is_asked_of_clients_follows_from_the_context() {
    let ca = Ca::new("ca");
    let asks = |context: &ValidationContext| {
        let verifier = verifier(context);
        (verifier.asks_clients(), verifier.needs_certificate(), verifier.verifies())
    };
    assert_eq!(asks(&ValidationContext::default()), (false, false, false));
    assert_eq!(asks(&trusting(&ca)), (true, false, true));
    let names = vec![matcher(SanKind::Dns, StringPattern::Exact("a".into()))];
    let named = ValidationContext { subject_alt_names: names, ..trusting(&ca) };
    assert_eq!(asks(&named), (true, true, true));
    assert_eq!(asks(&ValidationContext { accept_untrusted: true, ..named }), (true, false, true));
    let untrusted = ValidationContext { accept_untrusted: true, ..ValidationContext::default() };
    assert_eq!(asks(&untrusted), (true, false, false));
}

#[test]
fn long_and_looping_chains_end_soon() {
    let ca = Ca::new("ca");
    // Fifty CAs of one name and with one key that all could have signed each other.
    let (params, key) = (ca_params("loop"), KeyPair::generate().unwrap());
    let issuer = Issuer::new(params.clone(), key);
    let mut chain = vec![
        leaf_params(&[]).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone(),
    ];
    for _ in 0..50 {
        chain.push(params.signed_by(issuer.key(), &issuer).unwrap().der().clone());
    }
    assert_eq!(refused(&trusting(&ca), &chain).0, Rule::Chain);
}
