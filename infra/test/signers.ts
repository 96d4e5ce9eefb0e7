// Keys and certificates that templates and tests name. Nobody has their private halves.
import * as kms from 'aws-cdk-lib/aws-kms';
import { Construct } from 'constructs';
import { ACCOUNT, REGION } from './support';

export const PROFILE = `arn:aws:signer:${REGION}:${ACCOUNT}:/signing-profiles/release`;

export function signingKey(scope: Construct, id = 'Signing', own: kms.KeyProps = {}): kms.Key {
  return new kms.Key(scope, id, { keySpec: kms.KeySpec.ECC_NIST_P256, keyUsage: kms.KeyUsage.SIGN_VERIFY, ...own });
}

/** ECDSA on P-256, as `cosign generate-key-pair` makes them. */
export const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEXakuZf2U3MTOipLE/pKBHZuKExhp
AtLybzzgJ6Go9jqpRl3W1JPwxQq4bTuUaDUlFu1PiTDNS8jNg5gDUcL2RQ==
-----END PUBLIC KEY-----
`;

/** A certificate that has signed itself. */
export const ROOT = `-----BEGIN CERTIFICATE-----
MIICBzCCAYygAwIBAgIUEHWyP5rCJa4HdG81aA7zQzWo0/0wCgYIKoZIzj0EAwMw
MTEQMA4GA1UECgwHRXhhbXBsZTEdMBsGA1UEAwwURXhhbXBsZSBzaWduaW5nIHJv
b3QwIBcNMjYxMTI0MTUyNzE3WhgPMjEyNjEwMzExNTI3MTdaMDExEDAOBgNVBAoM
B0V4YW1wbGUxHTAbBgNVBAMMFEV4YW1wbGUgc2lnbmluZyByb290MHYwEAYHKoZI
zj0CAQYFK4EEACIDYgAE6NjkKhv1HtK6BShJkq2/t3DUWsA8IzpR9FNLvzG3gYhA
qO5TjiaIysZBI7hdb7ZyKDy7YWhNi4zkITquVzq4CKEcmZmj3BycJ9WvbSOPdEtW
LSPfPekFGPmHa2CpU0dro2MwYTAdBgNVHQ4EFgQUVNifJMyclqPCl/SAFxTOzLsD
KjQwHwYDVR0jBBgwFoAUVNifJMyclqPCl/SAFxTOzLsDKjQwDwYDVR0TAQH/BAUw
AwEB/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwMDaQAwZgIxAJWX9zqHpt5b
zzb48X58E8CxoRIkBQHzN2wjHUVWoCQraqAQkDMdClXwSW2cOYVeGQIxAIDujd49
pUIxyv5f7IqWOaBXBHmNzgl9gdBlOjwJD8oiU9d3VXAQHaP1on0/qF4L/A==
-----END CERTIFICATE-----
`;

/** One that was signed by the other. */
export const ISSUED = `-----BEGIN CERTIFICATE-----
MIIBejCCAQACFD/PCDe7r7nqnq3C/dtn5RA3Y3SOMAoGCCqGSM49BAMDMDExEDAO
BgNVBAoMB0V4YW1wbGUxHTAbBgNVBAMMFEV4YW1wbGUgc2lnbmluZyByb290MCAX
DTI2MTEyNDE1MjcxN1oYDzIxMjYxMDMxMTUyNzE3WjAsMRAwDgYDVQQKDAdFeGFt
cGxlMRgwFgYDVQQDDA9FeGFtcGxlIHJlbGVhc2UwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARdqS5l/ZTcxM6KksT+koEdm4oTGGkC0vJvPOAnoaj2OqlGXdbUk/DF
CrhtO5RoNSUW7U+JMM1LyM2DmANRwvZFMAoGCCqGSM49BAMDA2gAMGUCMQCxNiOp
QDNoj5w3MGAusWda4xdkTm5Mv2PJe5rFzTaOrSZmjrD2nZKkYvzkKA+tpLUCMC+f
J43M/O4u1B/Z4if0152q2/ihm+qYPMz3hTJ6DMIDCKFLJPfiomd+U1mcUM8vFw==
-----END CERTIFICATE-----
`;
