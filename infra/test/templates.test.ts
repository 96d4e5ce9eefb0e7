// The templates for those who deploy without the CDK. After a change that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { existsSync, readFileSync, writeFileSync } from 'fs';
import * as path from 'path';
import { parse } from 'yaml';
import { plainGate, plainPipeline } from './plain-templates';
import { find, findAll, plain, readable } from './support';

type Json = any;

const FOLDER = path.join(__dirname, '..', '..', 'templates');

for (const [name, make] of [['pipeline', plainPipeline], ['gate-example', plainGate]] as const) {
  describe(`templates/${name}.yaml`, () => {
    const text = make();
    const template: Json = parse(text);

    test('is what the constructs synthesize', () => {
      const file = path.join(FOLDER, `${name}.yaml`);
      if (process.env.UPDATE_TEMPLATES === '1') {
        writeFileSync(file, text);
      }
      assert.ok(existsSync(file), `${file} is missing; npm run test:update writes it`);
      assert.equal(readFileSync(file, 'utf8'), text, 'if the change is meant: npm run test:update');
    });

    test('knows nothing of the CDK, of this machine and of the name that stood for the parameter', () => {
      assert.doesNotMatch(text, /cdk-hnb|BootstrapVersion|AssetParameters|aws:cdk|CDKMetadata|name-of-the-pipeline|TEST_ANSWER_ORIGIN/);
      assert.doesNotMatch(JSON.stringify(Object.keys(template.Resources)), /[0-9A-F]{8}"/);
    });

    test('has no date where a text is meant', () => {
      assert.match(text, /AWSTemplateFormatVersion: ["']2010-09-09["']/);
      assert.doesNotMatch(text, /: \d{4}-\d\d-\d\d$/m);
    });

    test('refers to nothing that is not there', () => {
      const there = [...Object.keys(template.Parameters), ...Object.keys(template.Resources)];
      const names: string[] = [];
      const look = (value: Json): void => {
        if (value === null || typeof value !== 'object') {
          return;
        }
        for (const [key, inner] of Object.entries<Json>(value)) {
          if (key === 'Ref') {
            names.push(inner);
          } else if (key === 'Fn::GetAtt') {
            names.push(inner[0]);
          } else if (key === 'Fn::Sub') {
            names.push(...[...inner.matchAll(/\$\{([^!}][^}.]*)[^}]*\}/g)].map(([, of]: string[]) => of!));
          } else if (key === 'DependsOn') {
            names.push(...[inner].flat());
          }
          look(inner);
        }
      };
      look(template.Resources);
      look(template.Outputs);
      assert.ok(names.length > 3);
      assert.deepEqual(names.filter((one) => !one.startsWith('AWS::') && !there.includes(one)), []);
    });

    test('uses every parameter', () => {
      const rest = JSON.stringify([template.Resources, template.Outputs, template.Conditions ?? {}]);
      for (const parameter of Object.keys(template.Parameters)) {
        assert.ok(rest.includes(`"Ref":"${parameter}"`) || rest.includes(`\${${parameter}}`), parameter);
      }
    });

    test('fits into a request to CloudFormation', () => {
      assert.ok(Buffer.byteLength(text) <= 51_200, `${Buffer.byteLength(text)} bytes`);
    });
  });
}

test('the pipeline takes each function from its zip, for the architecture that was chosen', () => {
  const functions = findAll(readable(parse(plainPipeline())), 'AWS::Lambda::Function').map((f) => f.Properties);
  assert.deepEqual(
    functions.map((f) => [f.FunctionName, f.Code, f.Architectures]),
    ['on-push', 'on-scan', 'on-deploy', 'on-sweep'].map((key) => [
      { 'Fn::Sub': `ecr-scan-verifier-\${PipelineName}-${key}` },
      { S3Bucket: '{BinariesBucket}', S3Key: { 'Fn::Sub': `\${BinariesPrefix}\${Architecture}/${key}.zip` } },
      ['{Architecture}'],
    ]),
  );
});

test('the gate asks the pipeline of that name, and all it says is text', () => {
  const { Properties } = find(readable(parse(plainGate())), 'Custom::EcrScanVerifier');
  assert.deepEqual(plain(Properties.ServiceToken), {
    'Fn::Sub': 'arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:ecr-scan-verifier-${PipelineName}-on-deploy',
  });
  const { ServiceToken, ServiceTimeout, repositoryArn, startScan, ignoreFindings, ...texts } = Properties;
  assert.deepEqual(texts, {
    repositoryName: '{RepositoryName}',
    imageTag: '{ImageTag}',
    scanType: '{ScanType}',
    severityThreshold: '{SeverityThreshold}',
    failOnVulnerability: 'true',
    suppressErrorOnRollback: 'true',
    pollingTimeoutSeconds: '840',
  });
});
