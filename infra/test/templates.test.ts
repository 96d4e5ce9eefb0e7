// The templates for those who deploy without the CDK. After a change that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { existsSync, readFileSync, writeFileSync } from 'fs';
import * as path from 'path';
import { parse } from 'yaml';
import { plainGate, plainPipeline } from './plain-templates';
import { PUBLIC_KEY } from './signers';
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
            const [sentence, own = {}] = [inner].flat();
            const filledIn = [...sentence.matchAll(/\$\{([^!}][^}.]*)[^}]*\}/g)].map(([, of]: string[]) => of!);
            names.push(...filledIn.filter((one) => !(one in own)));
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

describe('what the pipeline is told by parameters', () => {
  const template = parse(plainPipeline());
  const resources = readable(template);
  const variables = (id: string): Json => find(resources, 'AWS::Lambda::Function', id).Properties.Environment.Variables;
  const nothing = { Ref: 'AWS::NoValue' };
  const only = (condition: string, value: Json, otherwise: Json = plain(nothing)): Json => ({ 'Fn::If': [condition, value, otherwise] });

  test('is told to the functions as the construct does, and what is empty is not said', () => {
    const { ALERTS, ALERT_TOPIC_ARN, EVENT_BUS } = variables('OnScan');
    assert.deepEqual([ALERT_TOPIC_ARN, EVENT_BUS], [only('SomebodyHears', '{AlertTopicArn}'), only('VerdictsAreAnnounced', 'default')]);
    assert.deepEqual(variables('OnDeploy').ALERT_TOPIC_ARN, ALERT_TOPIC_ARN);
    assert.equal(variables('OnSweep').DAILY_RESCANS, '{DailyRescans}');
    assert.equal(said(ALERTS, {}), '{"on":"DEPLOYED","warnDays":7}');
    assert.equal(
      said(ALERTS, { AlertOn: 'ALL', AlertSeverity: 'HIGH', AlertQuietSeconds: '3600', ExemptionWarningDays: '14' }),
      '{"on":"ALL","quietSeconds":3600,"severity":"HIGH","warnDays":14}',
    );
  });

  test('is granted only then', () => {
    const { Statement } = find(resources, 'AWS::IAM::Policy', 'OnScanRoleDefaultPolicy').Properties.PolicyDocument;
    const chosen = Statement.filter((s: Json) => 'Fn::If' in s).map(({ 'Fn::If': [condition, { Sid, Action }, otherwise] }: Json) => {
      assert.deepEqual(otherwise, plain(nothing));
      return [condition, Sid, Action];
    });
    assert.deepEqual(chosen, [
      ['SomebodyHears', 'Alerts', 'sns:Publish'],
      ['ItsKeyIsOurs', 'KeyOfAlerts', ['kms:Decrypt', 'kms:GenerateDataKey']],
      ['VerdictsAreAnnounced', 'AnnounceVerdicts', 'events:PutEvents'],
    ]);
  });

  test('is refused where it would do nothing: without a topic', () => {
    const { RuleCondition, Assertions } = template.Rules.AlertsNeedATopic;
    assert.deepEqual(RuleCondition, { 'Fn::Equals': [{ Ref: 'AlertTopicArn' }, ''] });
    for (const { Assert, AssertDescription } of Assertions) {
      const [{ Ref: parameter }, usual] = Assert['Fn::Equals'];
      assert.equal(usual, template.Parameters[parameter].Default, 'whoever says nothing is not refused');
      assert.equal(AssertDescription, `${parameter} does nothing without AlertTopicArn`);
    }
    const about = Object.keys(template.Parameters).filter((name) => name.startsWith('Alert') && name !== 'AlertTopicArn');
    assert.deepEqual(Assertions.map((a: Json) => a.Assert['Fn::Equals'][0].Ref).sort(), about.sort());
  });

  test('makes the backfill only where it is wanted, of what is there then', () => {
    assert.equal(template.Resources.Backfill.Condition, 'BackfillIsWanted');
    assert.deepEqual(template.Conditions.BackfillIsWanted, { 'Fn::Not': [{ 'Fn::Equals': [{ Ref: 'WithBackfill' }, 'false'] }] });
  });

  /** A text with the parameters filled in, as CloudFormation would. */
  function said(value: Json, given: Record<string, string>): string {
    if (typeof value === 'string') {
      return value;
    }
    const parameter = (name: string): string => String(given[name] ?? template.Parameters[name].Default);
    if ('Fn::If' in value) {
      const [condition, yes, no] = value['Fn::If'];
      const [{ 'Fn::Equals': [{ Ref: name }, text] }] = template.Conditions[condition]['Fn::Not'];
      return said(parameter(name) === text ? no : yes, given);
    }
    const [sentence, own = {}] = [value['Fn::Sub']].flat();
    return sentence.replace(/\$\{(\w+)\}/g, (_: string, name: string) => (name in own ? said(own[name], given) : parameter(name)));
  }
});

test('the gate asks the pipeline of that name, and all it says is text', () => {
  const { Properties } = find(readable(parse(plainGate())), 'Custom::EcrScanVerifier');
  assert.deepEqual(plain(Properties.ServiceToken), {
    'Fn::Sub': 'arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:ecr-scan-verifier-${PipelineName}-on-deploy',
  });
  const { ServiceToken, ServiceTimeout, repositoryArn, startScan, ignoreFindings, signatureVerification, ...texts } = Properties;
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

describe('the signer of the gate', () => {
  const template = parse(plainGate());
  const given = (own: Record<string, string>): Record<string, string> => ({
    ...Object.fromEntries(Object.entries<Json>(template.Parameters).map(([name, { Default }]) => [name, Default])),
    ...own,
  });

  const PROFILE = 'arn:aws:signer:eu-west-1:123456789012:/signing-profiles/release';
  const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab';
  const SIGNERS: [string, string, Json][] = [
    ['SigningProfileArn', PROFILE, { type: 'NOTATION', trustedIdentities: [PROFILE] }],
    ['SigningKeyArn', KEY, { type: 'COSIGN', kmsKeyArn: KEY }],
    ['SigningPublicKey', PUBLIC_KEY, { type: 'COSIGN', publicKey: PUBLIC_KEY }],
  ];
  for (const [name, value, expected] of SIGNERS) {
    test(`${name} says what the construct would`, () => {
      const parameters = given({ [name]: value, FailOnUnsigned: 'false' });
      assert.deepEqual(worked(template.Resources.Gate.Properties.signatureVerification, parameters), { ...expected, failOnUnsigned: 'false' });
      assert.deepEqual(refusals(parameters), []);
      assert.match(value, pattern(name));
    });
  }

  test('is none if none is named', () => {
    assert.deepEqual(worked(template.Resources.Gate.Properties.signatureVerification, given({})), { Ref: 'AWS::NoValue' });
    assert.deepEqual(refusals(given({})), []);
    for (const [name] of SIGNERS) {
      assert.match('', pattern(name));
    }
  });

  test('is never two', () => {
    for (const [one, first] of SIGNERS) {
      for (const [other, second] of SIGNERS.filter(([name]) => name !== one)) {
        assert.deepEqual(refusals(given({ [one]: first, [other]: second })), ['Name one signer: for several of them write signatureVerification yourself']);
      }
    }
  });

  test('has to be named where only signatures decide', () => {
    const ScanType = 'SIGNATURE_ONLY';
    assert.deepEqual(refusals(given({ ScanType })), ['SIGNATURE_ONLY asks for one of SigningProfileArn, SigningKeyArn, SigningPublicKey']);
    assert.deepEqual(refusals(given({ ScanType, SigningKeyArn: KEY })), []);
  });

  for (const [name, value] of [
    ['SigningPublicKey', PUBLIC_KEY.replaceAll('PUBLIC', 'PRIVATE')],
    ['SigningPublicKey', PUBLIC_KEY + PUBLIC_KEY.replaceAll('PUBLIC', 'PRIVATE')],
    ['SigningPublicKey', 'cosign.pub'],
    ['SigningKeyArn', 'alias/release'],
    ['SigningProfileArn', 'release'],
  ] as const) {
    test(`${name} takes no ${value.slice(0, 24)}...`, () => assert.doesNotMatch(value, pattern(name)));
  }

  // CloudFormation's patterns are for the whole value.
  function pattern(name: string): RegExp {
    return new RegExp(`^(?:${template.Parameters[name].AllowedPattern})$`);
  }

  function refusals(parameters: Record<string, string>): string[] {
    return Object.values<Json>(template.Rules).flatMap(({ RuleCondition, Assertions }) =>
      RuleCondition && !holds(RuleCondition, parameters)
        ? []
        : Assertions.filter((a: Json) => !holds(a.Assert, parameters)).map((a: Json) => a.AssertDescription),
    );
  }

  function holds(condition: Json, parameters: Record<string, string>): boolean {
    const [[name, of]] = Object.entries<Json>(condition) as [[string, Json]];
    switch (name) {
      case 'Fn::Equals':
        return worked(of[0], parameters) === worked(of[1], parameters);
      case 'Fn::Not':
        return !holds(of[0], parameters);
      case 'Fn::Or':
        return of.some((one: Json) => holds(one, parameters));
      case 'Fn::And':
        return of.every((one: Json) => holds(one, parameters));
      default:
        throw new Error(`${name} is not expected here`);
    }
  }

  /** References and conditions worked out. */
  function worked(value: Json, parameters: Record<string, string>): Json {
    if (Array.isArray(value)) {
      return value.map((inner) => worked(inner, parameters));
    }
    if (value === null || typeof value !== 'object') {
      return value;
    }
    if ('Ref' in value) {
      return parameters[value.Ref] ?? value;
    }
    if ('Fn::If' in value) {
      const [condition, yes, no] = value['Fn::If'];
      return worked(holds(template.Conditions[condition], parameters) ? yes : no, parameters);
    }
    return Object.fromEntries(Object.entries<Json>(value).map(([key, inner]) => [key, worked(inner, parameters)]));
  }
});
