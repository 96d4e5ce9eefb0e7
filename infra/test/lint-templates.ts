// Runs cfn-lint on every template: those of the golden stacks and those of the example app. `CFN_LINT` says where it is.
import { execFileSync, spawnSync } from 'child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'fs';
import { tmpdir } from 'os';
import * as path from 'path';
import { Template } from 'aws-cdk-lib/assertions';
import { GOLDEN_STACKS } from './golden-stacks';
import { binaries } from './support';

// CDK itself writes DependsOn beside the reference to a function's role.
const IGNORED = ['W3005'];

const folder = mkdtempSync(path.join(tmpdir(), 'ecr-scan-verifier-lint-'));
try {
  for (const stack of GOLDEN_STACKS.map((make) => make())) {
    const template = Template.fromStack(stack).toJSON();
    writeFileSync(path.join(folder, `${stack.stackName}-${readdirSync(folder).length}.template.json`), JSON.stringify(template, null, 1));
  }
  const example = path.join(folder, 'example');
  execFileSync(process.execPath, [path.join(__dirname, '..', 'example', 'app.js')], {
    env: { ...process.env, CDK_OUTDIR: example, CDK_CONTEXT_JSON: JSON.stringify({ 'ecr-scan-verifier:binaries': binaries() }) },
  });
  const templates = [folder, example].flatMap((from) =>
    readdirSync(from).filter((file) => file.endsWith('.template.json')).map((file) => path.join(from, file)),
  );

  const plain = path.join(__dirname, '..', '..', 'templates');
  templates.push(...readdirSync(plain).filter((file) => file.endsWith('.yaml')).map((file) => path.join(plain, file)));

  const lint = process.env.CFN_LINT ?? 'cfn-lint';
  const { status, error } = spawnSync(lint, ['--ignore-checks', ...IGNORED, '--', ...templates], { stdio: 'inherit' });
  if (error) {
    console.error(`${lint} does not start (${error.message}): pip install cfn-lint, or say where it is with CFN_LINT.`);
  } else if (status === 0) {
    console.log(`cfn-lint: ${templates.length} templates are clean.`);
  }
  process.exitCode = error ? 1 : (status ?? 1);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
