// Keys and certificates in PEM. They come from files that lie beside secrets, so no text here ever shows what was given: only
// which prop it was, and what its blocks call themselves.
import { KeyObject, X509Certificate, createPublicKey } from 'crypto';
import { Token } from 'aws-cdk-lib';

interface Block {
  /** What it calls itself: `PUBLIC KEY`. */
  readonly label: string;
  readonly text: string;
}

const LONGEST_LABEL = 40;

function blocks(pem: string): Block[] {
  const found = pem.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----/gs);
  return [...found].map(([text, label]) => ({ label: label!.slice(0, LONGEST_LABEL), text }));
}

/** Refused before anything else, and even when the rest is only known at deployment: once it is in a template it is lost. */
function refusePrivateKey(prop: string, pem: string): void {
  const [, label] = pem.match(/-----BEGIN ([A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*)-----/) ?? [];
  if (label) {
    throw new Error(
      `${prop} holds a private key (${label.slice(0, LONGEST_LABEL)}), which has no place in a template: everybody who may read the stack could sign with it. Give the public key instead, for example the text of cosign.pub. If the private one has been deployed or committed anywhere, make a new pair.`,
    );
  }
}

/** Each is tried on every signature, so the functions take no more. */
const MOST_KEYS = 10;
const READABLE_KEYS = ['PUBLIC KEY', 'RSA PUBLIC KEY'];

/** One or several public keys by which a signature can be checked. */
export function checkPublicKeys(prop: string, pem: string): void {
  refusePrivateKey(prop, pem);
  if (Token.isUnresolved(pem)) {
    return;
  }
  const given = blocks(pem);
  if (given.length === 0) {
    throw new Error(
      `${prop} is no public key in PEM: give the text of the file, from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, and not where it lies.`,
    );
  }
  if (given.length > MOST_KEYS) {
    throw new Error(`${prop} holds ${given.length} keys, and ${MOST_KEYS} is the most. Leave out those that sign nothing any more.`);
  }
  given.forEach(({ label, text }, n) => {
    const which = given.length === 1 ? prop : `${prop} (block ${n + 1} of ${given.length})`;
    if (!READABLE_KEYS.includes(label)) {
      throw new Error(`${which} is a ${label}, where only public keys are expected (PUBLIC KEY). Write the key alone: openssl x509 -pubkey -noout gives that of a certificate.`);
    }
    const key = parsed(() => createPublicKey(text));
    if (!key) {
      throw new Error(`${which} cannot be read: it says that it is a ${label}, but what follows is none. Copy the whole file, with its line breaks.`);
    }
    if (!isUsable(key)) {
      throw new Error(`${which} is a key of a kind that cannot be checked. Use ECDSA (P-256, P-384, P-521), RSA of 2048 to 8192 bits, or Ed25519.`);
    }
  });
}

const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

function isUsable(key: KeyObject): boolean {
  const { namedCurve = '', modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'ec':
      return CURVES.includes(namedCurve);
    case 'rsa':
      return modulusLength >= 2048 && modulusLength <= 8192;
    default:
      return key.asymmetricKeyType === 'ed25519';
  }
}

/** Certificates in which a chain can end: each has signed itself. */
export function checkRoots(prop: string, pem: string): void {
  refusePrivateKey(prop, pem);
  if (Token.isUnresolved(pem)) {
    return;
  }
  const given = blocks(pem);
  if (given.length === 0) {
    throw new Error(
      `${prop} is no certificate in PEM: give the text of the file, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and not where it lies.`,
    );
  }
  if (given.length > MOST_KEYS) {
    throw new Error(`${prop} holds ${given.length} keys, and ${MOST_KEYS} is the most. Leave out those that sign nothing any more.`);
  }
  given.forEach(({ label, text }, n) => {
    const which = given.length === 1 ? prop : `${prop} (block ${n + 1} of ${given.length})`;
    if (label !== 'CERTIFICATE') {
      throw new Error(`${which} is a ${label}, where only certificates are expected (CERTIFICATE).`);
    }
    const certificate = parsed(() => new X509Certificate(text));
    if (!certificate) {
      throw new Error(`${which} cannot be read: it says that it is a CERTIFICATE, but what follows is none. Copy the whole file, with its line breaks.`);
    }
    // Not whether it has expired: what counts is the time of the signature.
    if (!parsed(() => certificate.verify(certificate.publicKey))) {
      throw new Error(`${which} is no root: it was signed by another certificate. A chain is trusted by its end, so give the root that it leads to.`);
    }
  });
}

/** What the library says when it cannot read something is left out: it might repeat what it has read. */
function parsed<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}
