// What the tests share: an app with binaries that are only names, and templates read as plain text.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'fs';
import { tmpdir } from 'os';
import * as path from 'path';
import { App, AppProps, Stack, StackProps } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import { EcrScanVerifierProps, ScanConfig } from '../src';

export const ACCOUNT = '123456789012';
export const REGION = 'eu-west-1';
export const HOME = { account: ACCOUNT, region: REGION };
export const FUNCTIONS = ['on-push', 'on-scan', 'on-deploy', 'on-sweep'];

// The CDK's own look at each template takes most of the time; cfn-lint reads the few that matter (npm run lint:templates).
process.env.CDK_VALIDATION = 'false';

const scratch = mkdtempSync(path.join(tmpdir(), 'ecr-scan-verifier-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

let folders = 0;

/** A folder with the given binaries, each a text of its own. */
export function binaries(architectures = ['arm64', 'x86_64'], functions = FUNCTIONS): string {
  const folder = path.join(scratch, `binaries-${++folders}`);
  mkdirSync(folder);
  for (const architecture of architectures) {
    for (const name of functions) {
      mkdirSync(path.join(folder, architecture, name), { recursive: true });
      writeFileSync(path.join(folder, architecture, name, 'bootstrap'), `${architecture} ${name}`, { mode: 0o755 });
    }
  }
  return folder;
}

const everyBinary = binaries();

export function newApp(props: AppProps = {}): App {
  return new App({
    treeMetadata: false, // takes time, and nobody reads it here
    outdir: path.join(scratch, `out-${++folders}`),
    ...props,
    context: { 'ecr-scan-verifier:binaries': everyBinary, 'aws:cdk:version-reporting': false, ...props.context },
  });
}

export function newStack(props: StackProps = { env: HOME }, id = 'payments'): Stack {
  return new Stack(newApp(), id, props);
}

/** The least that a verifier needs, with an image that raises no warning. */
export function gateProps(stack: Stack, own: Partial<EcrScanVerifierProps> = {}): EcrScanVerifierProps {
  const repository = own.repository ?? repositoryNamed(stack, 'payments-api');
  return { repository, imageTag: DIGEST, scanConfig: ScanConfig.basic(), ...own };
}

export const DIGEST = `sha256:${'4f0c'.repeat(16)}`;

export function repositoryNamed(stack: Stack, name: string): ecr.IRepository {
  const id = `Repository-${name}`;
  return (stack.node.tryFindChild(id) as ecr.IRepository | undefined) ?? ecr.Repository.fromRepositoryName(stack, id, name);
}

export function warnings(stack: Stack): string[] {
  return stack.node
    .findAll()
    .flatMap((construct) => construct.node.metadata)
    .filter((entry) => entry.type === 'aws:cdk:warning')
    .map((entry) => String(entry.data));
}

type Json = any; // templates are JSON of every shape

export interface Resource {
  readonly id: string;
  readonly Type: string;
  readonly Properties: Json;
  readonly DependsOn: string[];
  readonly DeletionPolicy?: string;
}

/** All resources of a stack, with references turned into text: `{Verdicts}`, `{Verdicts.Arn}`, `arn:aws:...`. */
export function resources(stack: Stack): Resource[] {
  return readable(Template.fromStack(stack).toJSON());
}

export function readable(template: Json): Resource[] {
  return Object.entries<Json>(template.Resources ?? {}).map(([id, resource]) => ({
    ...plain(resource),
    id: short(id),
    DependsOn: [resource.DependsOn ?? []].flat().map(short).sort(),
  }));
}

export function find(from: Resource[], type: string, id: RegExp | string = /./): Resource {
  const found = findAll(from, type).filter((r) => (typeof id === 'string' ? r.id.endsWith(id) : id.test(r.id)));
  if (found.length !== 1) {
    throw new Error(`${found.length} resources of type ${type} match ${id}, wanted one; there are: ${from.map((r) => r.id).join(', ')}`);
  }
  return found[0]!;
}

export function findAll(from: Resource[], type: string): Resource[] {
  return from.filter((resource) => resource.Type === type);
}

/** What a function's role may do, a line each: `action on resource`. */
export function permissions(from: Resource[], role: string): string[] {
  const policy = find(from, 'AWS::IAM::Policy', `${role}RoleDefaultPolicy`);
  return policy.Properties.PolicyDocument.Statement.flatMap((statement: Json) => {
    const condition = statement.Condition ? ` when ${JSON.stringify(statement.Condition)}` : '';
    return [statement.Action]
      .flat()
      .flatMap((action) => [statement.Resource].flat().map((resource) => `${statement.Effect} ${action} on ${resource}${condition}`));
  }).sort();
}

// CDK ends logical ids with eight hex digits.
function short(id: string): string {
  return id.replace(/[0-9A-F]{8}$/, '');
}

const PSEUDO: Record<string, string> = {
  'AWS::Partition': 'aws',
  'AWS::Region': REGION,
  'AWS::AccountId': ACCOUNT,
  'AWS::URLSuffix': 'amazonaws.com',
  'AWS::StackName': 'the-stack',
};

/** Intrinsic functions worked out as far as a test needs them; `known` holds attributes that have a value: `{Gate.ImageUri}`. */
export function plain(value: Json, known: Record<string, string> = {}): Json {
  if (Array.isArray(value)) {
    return value.map((inner) => plain(inner, known));
  }
  if (value === null || typeof value !== 'object') {
    return value;
  }
  if ('Ref' in value) {
    return PSEUDO[value.Ref] ?? `{${short(value.Ref)}}`;
  }
  if ('Fn::GetAtt' in value) {
    const attribute = `{${short(value['Fn::GetAtt'][0])}.${value['Fn::GetAtt'][1]}}`;
    return known[attribute] ?? attribute;
  }
  if ('Fn::Join' in value) {
    return plain(value['Fn::Join'][1], known).join(value['Fn::Join'][0]);
  }
  if ('Fn::Split' in value) {
    return plain(value['Fn::Split'][1], known).split(value['Fn::Split'][0]);
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner, known)]));
}
