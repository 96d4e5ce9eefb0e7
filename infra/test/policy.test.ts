import * as assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { CfnParameter, Lazy, Stack } from 'aws-cdk-lib';
import { EcrScanPipeline, EcrScanVerifier, Exemption, PolicyOptions, ScanConfig, Severity } from '../src';
import { find, gateProps, newStack, resources, warnings } from './support';

type Props = PolicyOptions & { severity?: Severity[]; severityThreshold?: Severity; ignoreFindings?: string[] };

/** A gate that Inspector's findings decide about, so that every choice can work. */
function gate(stack: Stack, props: Props, scanConfig = ScanConfig.enhanced()): void {
  new EcrScanVerifier(stack, 'Verifier', gateProps(stack, { scanConfig, pipeline: EcrScanPipeline.fromName(stack, 'Shared', 'demo'), ...props }));
}

function ofGate(props: Props, stack = newStack()): Record<string, unknown> {
  gate(stack, props);
  return find(resources(stack), 'Custom::EcrScanVerifier').Properties;
}

function ofPipeline(props: Props, stack = newStack()): Record<string, unknown> {
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', ...props });
  return JSON.parse(find(resources(stack), 'AWS::Lambda::Function', 'OnScan').Properties.Environment.Variables.PIPELINE_POLICY);
}

const exemption = (own: Partial<Exemption> = {}): Exemption => ({ id: 'CVE-2024-3094', reason: 'not reachable', until: '2026-06-30', ...own });

// Both judge, so both take the same choices, in the same form, and refuse in the same words.
for (const [who, said] of [['a gate', ofGate], ['a pipeline', ofPipeline]] as [string, typeof ofGate][]) {
  describe(`the policy of ${who}`, () => {
    // Whether an exemption has ended is a question of the day.
    beforeEach(() => mock.timers.enable({ apis: ['Date'], now: new Date('2026-03-14T09:26:53Z') }));
    afterEach(() => mock.timers.reset());

    for (const [what, props, expected] of [
      [
        'an exemption says what it has, and no more',
        { exemptions: [exemption()] },
        { exemptions: [{ id: 'CVE-2024-3094', reason: 'not reachable', until: '2026-06-30' }] },
      ],
      [
        'a narrow exemption says all of it',
        { exemptions: [exemption({ package: 'xz-utils', repository: 'payments-api', untilFixed: true })] },
        {
          exemptions: [
            { id: 'CVE-2024-3094', reason: 'not reachable', until: '2026-06-30', package: 'xz-utils', repository: 'payments-api', untilFixed: 'true' },
          ],
        },
      ],
      ['an exemption until its last day whatever is fixed', { exemptions: [exemption({ untilFixed: false })] }, { exemptions: [exemption()] }],
      [
        'one vulnerability may be exempt in two packages and two repositories',
        { exemptions: [exemption(), exemption({ package: 'a' }), exemption({ package: 'b' }), exemption({ repository: 'a' }), exemption({ id: 'CVE-2' })] },
        { exemptions: [exemption(), exemption({ package: 'a' }), exemption({ package: 'b' }), exemption({ repository: 'a' }), exemption({ id: 'CVE-2' })] },
      ],
      ['a day that only a leap year has', { exemptions: [exemption({ until: '2028-02-29' })] }, { exemptions: [exemption({ until: '2028-02-29' })] }],
      ['no exemptions are not said', { exemptions: [] }, { exemptions: undefined }],
      ['findings without a fix can pass', { ignoreUnfixed: true }, { ignoreUnfixed: 'true' }],
      ['or block, which is not said', { ignoreUnfixed: false }, { ignoreUnfixed: undefined }],
      ['findings can be limited by number', { maxFindings: { critical: 0, high: 5 } }, { maxFindings: { CRITICAL: '0', HIGH: '5' } }],
      [
        'of each rated severity',
        { maxFindings: { critical: 1, high: 2, medium: 3, low: 4, informational: 500 } },
        { maxFindings: { CRITICAL: '1', HIGH: '2', MEDIUM: '3', LOW: '4', INFORMATIONAL: '500' } },
      ],
      ['findings can block always', { blockAlways: ['CVE-2021-44228'] }, { blockAlways: ['CVE-2021-44228'] }],
      [
        'while others are ignored and exempt',
        { blockAlways: ['CVE-1'], ignoreFindings: ['CVE-2'], exemptions: [exemption()] },
        { blockAlways: ['CVE-1'], ignoreFindings: ['CVE-2'], exemptions: [exemption()] },
      ],
      ['a day of grace', { graceDays: 1 }, { graceDays: '1' }],
      ['a year of grace', { graceDays: 365 }, { graceDays: '365' }],
      ['known exploits can decide', { exploit: { exploitAvailable: true } }, { exploit: { exploitAvailable: 'true' } }],
      ['likely exploits can decide', { exploit: { epss: 0.1 } }, { exploit: { epss: '0.1' } }],
      ['a small likelihood travels without an exponent', { exploit: { epss: 0.0000001 } }, { exploit: { epss: '0.0000001' } }],
      ['every likelihood can decide', { exploit: { epss: 0 } }, { exploit: { epss: '0' } }],
    ] as [string, Props, Record<string, unknown>][]) {
      test(what, () => {
        const policy = said(props);
        for (const [member, form] of Object.entries(expected)) {
          assert.deepEqual(policy[member], form, member);
        }
      });
    }

    for (const [what, props, message] of [
      [
        'an exemption of nothing',
        { exemptions: [exemption(), exemption({ id: ' ' })] },
        "exemptions[1].id is empty: name the vulnerability that it excuses, for example 'CVE-2024-3094'.",
      ],
      [
        'an exemption without a reason',
        { exemptions: [exemption({ reason: '' })] },
        'exemptions[0].reason is empty: say why the finding may pass, for those who read it beside the finding.',
      ],
      [
        'an exemption in a package without a name',
        { exemptions: [exemption({ package: '' })] },
        'exemptions[0].package is empty: leave it out to excuse the finding in every package.',
      ],
      [
        'an exemption in a repository without a name',
        { exemptions: [exemption({ repository: '' })] },
        'exemptions[0].repository is empty: leave it out to excuse the finding in every repository.',
      ],
      ...['', 'soon', '2026-02-30', '2026-02-29', '2026-13-01', '2026-6-30', '2026-06-30T00:00:00Z', '30.06.2026'].map((until) => [
        `an exemption until '${until}'`,
        { exemptions: [exemption({ until })] },
        `exemptions[0].until is '${until}', which is no day of the calendar: write the last day of the exemption of 'CVE-2024-3094' as YYYY-MM-DD, for example 2026-12-31.`,
      ]),
      ...[{}, { package: 'xz-utils' }, { repository: 'payments-api' }, { package: 'xz-utils', repository: 'payments-api' }].map((scope) => [
        `two exemptions of one vulnerability in ${JSON.stringify(scope)}`,
        { exemptions: [exemption(scope), exemption({ ...scope, until: '2026-05-31', reason: 'another' })] },
        "exemptions[1] excuses 'CVE-2024-3094' a second time for the same package and repository: which of the two last days holds, nobody could say. " +
          "Keep one, or tell them apart by 'package' or 'repository'.",
      ]),
      ...[-1, 1.5, NaN, Infinity].map((high) => [
        `${high} as a number of findings`,
        { maxFindings: { critical: 0, high } },
        `maxFindings.high must be a whole number, 0 or more, got ${high}: it says how many findings of that severity may pass.`,
      ]),
      [
        'a limit for nothing',
        { maxFindings: {} },
        'maxFindings must limit at least one severity: give one of critical, high, medium, low, informational, or leave it out.',
      ],
      [
        'an empty list of what blocks always',
        { blockAlways: [] },
        "blockAlways must contain at least one id, for example 'CVE-2024-3094'. Leave it out when no finding blocks always.",
      ],
      [
        'an empty id of what blocks always',
        { blockAlways: ['CVE-1', ''] },
        "blockAlways contains an empty id: name a vulnerability, for example 'CVE-2024-3094', or take it out.",
      ],
      [
        'what blocks always and is ignored',
        { blockAlways: ['CVE-1', 'CVE-2'], ignoreFindings: ['CVE-3', 'CVE-2'] },
        "blockAlways and ignoreFindings both name 'CVE-2': it cannot block always and be excused as well. Take it out of one of them.",
      ],
      [
        'what blocks always and is exempt, be it in one package',
        { blockAlways: ['CVE-2024-3094'], exemptions: [exemption({ package: 'xz-utils' })] },
        "blockAlways and exemptions both name 'CVE-2024-3094': it cannot block always and be excused as well. Take it out of one of them.",
      ],
      ...[0, 366, 1.5, -1, NaN].map((graceDays) => [
        `${graceDays} days of grace`,
        { graceDays },
        `graceDays must be a whole number from 1 to 365, got ${graceDays}. Leave it out to block from the first day.`,
      ]),
      ...[{}, { exploitAvailable: false }].map((exploit) => [
        `exploit that says ${JSON.stringify(exploit)}`,
        { exploit },
        'exploit must say which findings block: give exploitAvailable: true, or epss. Leave it out to block with and without a known exploit.',
      ]),
    ] as [string, Props, string][]) {
      test(`${what} is refused`, () => {
        assert.throws(() => said(props), { message });
      });
    }

    test('says nothing of what is not given', () => {
      const policy = said({});
      for (const member of ['exemptions', 'ignoreUnfixed', 'maxFindings', 'blockAlways', 'graceDays', 'exploit']) {
        assert.ok(!(member in policy), member);
      }
    });

    test('leaves alone what is only known at deployment', () => {
      const stack = newStack();
      const text = (name: string): string => new CfnParameter(stack, name).valueAsString;
      const number = (name: string): number => new CfnParameter(stack, name, { type: 'Number' }).valueAsNumber;
      const policy = said(
        {
          exemptions: [exemption({ until: text('Until') }), exemption({ id: text('Id') }), exemption({ id: Lazy.string({ produce: () => 'later' }) })],
          maxFindings: { high: number('High') },
          blockAlways: [text('Always'), 'CVE-1'],
          graceDays: number('Days'),
        },
        stack,
      );
      assert.deepEqual(policy.exemptions, [exemption({ until: '{Until}' }), exemption({ id: '{Id}' }), exemption({ id: 'later' })]);
      assert.deepEqual(policy.maxFindings, { HIGH: '{High}' });
      assert.deepEqual(policy.blockAlways, ['{Always}', 'CVE-1']);
      assert.deepEqual(policy.graceDays, '{Days}');
      assert.deepEqual(warnings(stack), []);
    });

    describe('on 14 March 2026', () => {
      const warned = (until: string): string[] => {
        const stack = newStack();
        said({ exemptions: [exemption({ until })] }, stack);
        return warnings(stack);
      };

      for (const until of ['2026-03-13', '2020-01-01']) {
        test(`an exemption until ${until} has ended`, () => {
          const [warning, ...others] = warned(until);
          assert.deepEqual(others, []);
          assert.ok(warning?.startsWith(`The exemption of 'CVE-2024-3094' ended on ${until} and excuses nothing. Take it out of 'exemptions'`), warning);
          assert.match(warning!, /\[ack: @ecr-scan-verifier:exemptionEnded\]/);
        });
      }

      for (const until of ['2026-03-14', '2026-03-15', '2027-03-14']) {
        test(`one until ${until} raises no warning`, () => assert.deepEqual(warned(until), []));
      }

      for (const until of ['2027-03-15', '9999-12-31']) {
        test(`one until ${until} lasts too long`, () => {
          const [warning, ...others] = warned(until);
          assert.deepEqual(others, []);
          assert.ok(warning?.startsWith(`The exemption of 'CVE-2024-3094' lasts until ${until}, more than 365 days from today`), warning);
          assert.match(warning!, /\[ack: @ecr-scan-verifier:exemptionFarAhead\]/);
        });
      }

      test('each exemption has its own warning', () => {
        const stack = newStack();
        said({ exemptions: ['CVE-1', 'CVE-2'].map((id) => exemption({ id, until: '2026-01-01' })) }, stack);
        assert.equal(warnings(stack).length, 2);
      });
    });

    test('a severity that is limited by number is no gap', () => {
      const warned = (props: Props): string => {
        const stack = newStack();
        said(props, stack);
        return warnings(stack).join();
      };
      assert.match(warned({ severity: [Severity.MEDIUM], maxFindings: { high: 3 } }), /a finding of severity CRITICAL does not block/);
      assert.equal(warned({ severity: [Severity.MEDIUM], maxFindings: { high: 3, critical: 0 } }), '');
    });
  });
}

test('a list of what blocks always that is only known at deployment goes along as it is', () => {
  const stack = newStack();
  const blockAlways = new CfnParameter(stack, 'List', { type: 'CommaDelimitedList' }).valueAsList;
  assert.equal(ofGate({ blockAlways, ignoreFindings: ['CVE-1'] }, stack).blockAlways, '{List}');
});

test("the pipeline's policy is one text, whatever the order of the props", () => {
  const stack = newStack();
  new EcrScanPipeline(stack, 'Pipeline', {
    pipelineName: 'demo',
    severityThreshold: Severity.HIGH,
    maxFindings: { low: 100, high: 5 },
    ignoreUnfixed: true,
    ignoreFindings: ['CVE-4', 'CVE-3'],
    graceDays: 14,
    exploit: { exploitAvailable: true },
    exemptions: [exemption({ untilFixed: true })],
    blockAlways: ['CVE-2', 'CVE-1', 'CVE-2'],
  });
  assert.equal(
    find(resources(stack), 'AWS::Lambda::Function', 'OnDeploy').Properties.Environment.Variables.PIPELINE_POLICY,
    '{"blockAlways":["CVE-1","CVE-2"],' +
      '"exemptions":[{"id":"CVE-2024-3094","reason":"not reachable","until":"2026-06-30","untilFixed":"true"}],' +
      '"exploit":{"exploitAvailable":"true"},"graceDays":"14","ignoreFindings":["CVE-3","CVE-4"],"ignoreUnfixed":"true",' +
      '"maxFindings":{"HIGH":"5","LOW":"100"},"severityThreshold":"HIGH"}',
  );
});

test('exemptions count as to the room that a policy has', () => {
  const exemptions = (count: number): Exemption[] => Array.from({ length: count }, (_, n) => exemption({ id: `CVE-2024-${10_000 + n}` }));
  assert.doesNotThrow(() => ofPipeline({ exemptions: exemptions(40) }));
  assert.throws(() => ofPipeline({ exemptions: exemptions(50) }), /policy takes \d+ bytes.* Shorten ignoreFindings and exemptions/);
});

describe('basic scanning', () => {
  const basic = (props: Props, scanConfig = ScanConfig.basic()) => () => gate(newStack(), props, scanConfig);

  for (const [prop, props, why] of [
    ['ignoreUnfixed', { ignoreUnfixed: true }, 'does not know whether a fix exists'],
    ['exemptions[1].untilFixed', { exemptions: [exemption(), exemption({ id: 'CVE-2', untilFixed: true })] }, 'does not know whether a fix exists'],
    ['graceDays', { graceDays: 14 }, 'does not date its findings'],
    ['exploit', { exploit: { exploitAvailable: true } }, 'does not know exploits'],
  ] as [string, Props, string][]) {
    test(`${why}, so ${prop} is refused`, () => {
      const message = `${prop} cannot work with ScanConfig.basic(): basic scanning ${why}. Use ScanConfig.enhanced(), or leave it out.`;
      assert.throws(basic(props), { message });
      assert.throws(basic(props, ScanConfig.basic({ startScan: false })), { message });
      assert.doesNotThrow(basic(props, ScanConfig.enhanced()));
    });
  }

  test('says enough for everything else', () => {
    assert.doesNotThrow(basic({ ignoreUnfixed: false, exemptions: [exemption({ untilFixed: false })], maxFindings: { high: 1 }, blockAlways: ['CVE-1'] }));
  });
});
