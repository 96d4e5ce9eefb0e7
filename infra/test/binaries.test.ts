import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readFileSync } from 'fs';
import * as path from 'path';
import { Stack } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { EcrScanPipeline, EcrScanVerifier } from '../src';
import { HOME, binaries, findAll, gateProps, newApp, resources } from './support';

const { ARM_64, X86_64 } = lambda.Architecture;
const OTHER = lambda.Architecture.custom('riscv64');

function stackWith(folder: string): Stack {
  return new Stack(newApp({ context: { 'ecr-scan-verifier:binaries': folder } }), 'payments', { env: HOME });
}

// Both constructs choose binaries; both have to refuse in the same words.
const makers: [string, (stack: Stack, architecture?: lambda.Architecture) => void][] = [
  ['a pipeline', (stack, architecture) => void new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', architecture })],
  ['a verifier without one', (stack, architecture) => void new EcrScanVerifier(stack, 'Verifier', gateProps(stack, { architecture }))],
];

for (const [what, make] of makers) {
  describe(what, () => {
    for (const [architecture, name] of [[ARM_64, 'arm64'], [X86_64, 'x86_64'], [undefined, 'arm64']] as const) {
      test(`with ${architecture?.name ?? 'no architecture given'} runs ${name} binaries`, () => {
        const stack = stackWith(binaries([name]));
        make(stack, architecture);
        for (const { Properties } of findAll(resources(stack), 'AWS::Lambda::Function')) {
          assert.deepEqual(Properties.Architectures, [name]);
        }
      });
    }

    test('with any other architecture is refused', () => {
      assert.throws(() => make(stackWith(binaries()), OTHER), {
        message: "Unsupported architecture 'riscv64'. Only Architecture.ARM_64 and Architecture.X86_64 are supported.",
      });
    });

    test('whose binaries are missing is refused, with the folder and the architecture that is there', () => {
      const folder = binaries(['x86_64']);
      assert.throws(() => make(stackWith(folder), ARM_64), {
        message:
          `No arm64 binaries for on-push, on-scan, on-deploy, on-sweep in ${folder}. ` +
          "Set 'architecture' to Architecture.X86_64, whose binaries are there, build them there (<architecture>/<function>/bootstrap), " +
          "or name another folder of that layout with the context key 'ecr-scan-verifier:binaries'.",
      });
    });

    test('without any binaries is refused, and no other architecture is offered', () => {
      const folder = binaries([]);
      assert.throws(() => make(stackWith(folder), X86_64), (error: Error) => {
        assert.match(error.message, /^No x86_64 binaries for on-push, on-scan, on-deploy, on-sweep in .*\. Either build them there/);
        return true;
      });
    });

    test('with one binary missing is refused, by name', () => {
      const folder = binaries(['arm64'], ['on-push', 'on-scan', 'on-deploy']);
      assert.throws(() => make(stackWith(folder)), /No arm64 binaries for on-sweep in/);
    });
  });
}

test('a relative folder counts from where the app is started', () => {
  const folder = binaries(['arm64']);
  const stack = stackWith(path.relative(process.cwd(), folder));
  assert.doesNotThrow(() => new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo' }));
});

test('without the context key they lie in the package', () => {
  const stack = new Stack(newApp({ context: { 'ecr-scan-verifier:binaries': undefined } }), 'payments', { env: HOME });
  const packaged = path.join(__dirname, '..', '..', 'binaries');
  try {
    new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo' });
  } catch (error) {
    assert.ok(String(error).includes(` in ${packaged}. `), String(error));
  }
});

test('and the package lists what it ships: what `build` makes, and what `make dist` puts beside it', () => {
  const { files, main, types } = JSON.parse(readFileSync(path.join(__dirname, '..', '..', 'package.json'), 'utf8'));
  // npm passes over in silence what is listed and is not there.
  assert.deepEqual(files, ['lib', 'binaries', 'templates/*.yaml', 'templates/publish.sh', '.jsii']);
  assert.deepEqual([main, types].map(path.dirname), ['lib', 'lib']);
});

test('each function gets its own binary', () => {
  const stack = stackWith(binaries());
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo' });
  const keys = findAll(resources(stack), 'AWS::Lambda::Function').map((f) => f.Properties.Code.S3Key);
  assert.equal(new Set(keys).size, 4);
});
