// The package as it is built: by jsii, so that other languages of the CDK can use it. Built in a copy, so that a test changes
// nothing of what lies here. After a change that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { execFileSync } from 'child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'fs';
import { tmpdir } from 'os';
import * as path from 'path';

const INFRA = path.join(__dirname, '..', '..');
const API = path.join(INFRA, '..', 'docs', 'API.md');

const copy = mkdtempSync(path.join(tmpdir(), 'ecr-scan-verifier-package-'));
const infra = path.join(copy, 'infra');
after(() => rmSync(copy, { recursive: true, force: true }));

before(() => {
  mkdirSync(path.join(copy, 'docs'));
  mkdirSync(infra);
  for (const file of ['README.md', 'LICENSE']) {
    cpSync(path.join(INFRA, '..', file), path.join(copy, file));
  }
  for (const file of ['package.json', 'src', 'test', 'templates']) {
    cpSync(path.join(INFRA, file), path.join(infra, file), { recursive: true });
  }
  symlinkSync(path.join(INFRA, 'node_modules'), path.join(infra, 'node_modules'));
  const bootstrap = path.join(infra, 'binaries', 'arm64', 'on-push', 'bootstrap');
  mkdirSync(path.dirname(bootstrap), { recursive: true });
  writeFileSync(bootstrap, 'stands for on-push');
  run('build'); // jsii: an error or a new warning fails it
});

function run(script: string): void {
  execFileSync('npm', ['run', '--silent', script], { cwd: infra, stdio: ['ignore', 'pipe', 'inherit'] });
}

test('docs/API.md tells what the package offers', () => {
  run('api');
  const api = readFileSync(path.join(copy, 'docs', 'API.md'), 'utf8');
  if (process.env.UPDATE_TEMPLATES === '1') {
    writeFileSync(API, api);
  }
  assert.ok(readFileSync(API, 'utf8') === api, 'docs/API.md differs; if the change is meant: npm run test:update');
});

test('every prop of a gate and a pipeline says what it does', () => {
  const { types } = JSON.parse(readFileSync(path.join(infra, '.jsii'), 'utf8'));
  const silent = Object.values<any>(types)
    .flatMap((type) => [type, ...(type.properties ?? []).map((p: any) => ({ ...p, name: `${type.name}.${p.name}` }))])
    .filter((one) => !one.docs?.summary && !one.overrides)
    .map((one) => one.name);
  assert.deepEqual(silent, []);
});

test('every choice that may be left out says what happens then', () => {
  const { types } = JSON.parse(readFileSync(path.join(infra, '.jsii'), 'utf8'));
  const silent = Object.values<any>(types)
    .flatMap((type) => (type.properties ?? []).filter((p: any) => p.optional && !p.docs?.default).map((p: any) => `${type.name}.${p.name}`));
  assert.deepEqual(silent, []);
});

test('the package holds what is built, what it needs to run, what it is and whose it is, and no more', () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: infra, stdio: ['ignore', 'pipe', 'ignore'] }).toString());
  const names: string[] = files.map((file: { path: string }) => file.path);
  for (const wanted of ['package.json', 'README.md', 'LICENSE', '.jsii', 'lib/index.js', 'lib/index.d.ts', 'templates/pipeline.yaml', 'templates/publish.sh', 'binaries/arm64/on-push/bootstrap']) {
    assert.ok(names.includes(wanted), wanted);
  }
  assert.deepEqual(names.filter((name) => /^(src|test|example|node_modules)\/|\.json$/.test(name) && name !== 'package.json'), []);
});

test('the package exports what the original did, and what is new', () => {
  const original = [
    ...['EcrScanVerifier', 'EcrScanVerifierProps', 'ScanConfig', 'BasicScanConfigOptions', 'EnhancedScanConfigOptions'],
    ...['SignatureOnlyConfigOptions', 'ScanConfigBindOutput', 'ScanLogsOutput', 'ScanLogsOutputType', 'ScanLogsOutputOptions'],
    ...['CloudWatchLogsOutputOptions', 'CloudWatchLogsOutputProps', 'S3OutputOptions', 'S3OutputProps', 'SbomOutput', 'SbomOutputConfig'],
    ...['SbomOutputProps', 'SignatureVerification', 'SignatureVerificationBindOutput', 'VerificationOptions', 'NotationVerificationOptions'],
    ...['CosignPublicKeyVerificationOptions', 'CosignKmsVerificationOptions', 'Severity', 'SbomFormat'],
  ];
  const ours = [
    ...['EcrScanPipeline', 'EcrScanPipelineProps', 'IEcrScanPipeline', 'OnUnscanned', 'PolicyOptions', 'Exemption', 'MaxFindings'],
    ...['ExploitLimits', 'ScanLogsLayout', 'AlarmOptions', 'AlertOn', 'SeveralSignersOptions'],
  ];
  const { types } = JSON.parse(readFileSync(path.join(infra, '.jsii'), 'utf8'));
  assert.deepEqual(Object.values<any>(types).map((type) => type.name).sort(), [...original, ...ours].sort());
  const gate = types['ecr-scan-verifier.EcrScanVerifier'];
  assert.deepEqual(gate.properties.map((p: any) => p.name).sort(), ['imageDigest', 'imageUri', 'imageUriWithTag']);
  assert.equal(gate.methods, undefined);
  // What a user may write by hand: the four classes are open, and ask for this alone.
  for (const [name, parameters] of Object.entries({ ScanConfig: [], ScanLogsOutput: ['grantee'], SbomOutput: ['grantee'], SignatureVerification: ['grantee'] })) {
    const { abstract, methods } = types[`ecr-scan-verifier.${name}`];
    const own = methods.filter((method: any) => !method.static);
    assert.deepEqual([abstract, own.map((m: any) => [m.name, m.abstract, (m.parameters ?? []).map((p: any) => p.name)])], [true, [['bind', true, parameters]]], name);
  }
});
