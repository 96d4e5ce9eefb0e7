"""A certificate authority for one run, in the middle of a bundle of many others: a client has to read them all, as it does on Lambda."""
import os
import subprocess
from pathlib import Path

ROOTS = 140
SYSTEM = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
END = "-----END CERTIFICATE-----\n"


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_ca(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    subject = f"/O=ecr-scan-verifier bench/CN={name}"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "30", "-subj", subject)
    return key, certificate


def other_roots(folder):
    """The machine's own roots, where it has some, else made ones; and which of the two."""
    for path in SYSTEM:
        if path.is_file():
            roots = [root + END for root in path.read_text().split(END) if "BEGIN CERTIFICATE" in root]
            return roots, f"{len(roots)} roots of this machine"
    roots = []
    for n in range(ROOTS):
        key, certificate = folder / "other.key", folder / f"other-{n}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-out", str(certificate),
                "-days", "30", "-subj", f"/O=bench/CN=other root {n}")
        roots.append(certificate.read_text())
    return roots, f"{ROOTS} roots made for it"


class Certificates:
    """`bundle`: what a client trusts. `certificate`, `key`: what the stand-in shows."""

    def __init__(self, folder):
        folder = Path(folder)
        ca_key, ca = make_ca(folder, "bench-root")
        self.certificate, self.key, self.bundle = folder / "server.pem", folder / "server.key", folder / "bundle.pem"
        request, extensions = folder / "server.csr", folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,DNS:*.localhost,IP:127.0.0.1\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(self.key), "-out", str(request), "-subj", "/CN=localhost")
        openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", "30",
                "-extfile", str(extensions), "-out", str(self.certificate))
        roots, self.others = other_roots(folder)
        middle = len(roots) // 2
        self.bundle.write_text("".join([*roots[:middle], ca.read_text(), *roots[middle:]]))
        os.chmod(self.key, 0o600)
