// What a gate holds back must not be what the gate waits for. CloudFormation would only say "circular dependency", and name
// none of these.
import { CfnResource, Stack } from 'aws-cdk-lib';
import { Construct, IConstruct } from 'constructs';
import { Needs } from './destinations';

export interface Waiting {
  readonly gate: Construct;
  readonly blocked: IConstruct[];
  /** What this gate alone waits for. */
  readonly needs: Needs;
  /** What it waits for together with other gates of its stack, by what they share: each waits for the things of all. */
  readonly shared: Record<string, Needs>;
}

const others = new WeakMap<Stack, Waiting[]>();

export function checkBlocked(one: Waiting): void {
  refuse(one, { ...one.needs, ...Object.assign({}, ...Object.values(one.shared)), gate: one.gate });

  const stack = Stack.of(one.gate);
  const before = others.get(stack) ?? [];
  for (const other of before) {
    for (const what of Object.keys(one.shared).filter((name) => name in other.shared)) {
      refuse(one, other.shared[what]!, { owner: other.gate, what });
      refuse(other, one.shared[what]!, { owner: one.gate, what });
    }
  }
  others.set(stack, [...before, one]);
}

function refuse({ gate, blocked }: Waiting, needs: Needs, of?: { owner: Construct; what: string }): void {
  for (const construct of blocked) {
    for (const [what, needed] of Object.entries(needs)) {
      if (needed?.node.scopes.includes(construct) && (needed === gate || hasResources(needed))) {
        const path = construct.node.path;
        const whose = of ? ` of '${of.owner.node.path}', with which it shares its ${of.what}` : '';
        const prop = of ? `blockConstructs of '${gate.node.path}'` : 'blockConstructs';
        throw new Error(
          `${prop} contains '${path}', which contains the ${what} ('${needed.node.path}')${whose}: each would wait for the other. List only what runs the image (the service, the function), or move the ${what} out of '${path}'.`,
        );
      }
    }
  }
}

function hasResources(construct: IConstruct): boolean {
  return construct.node.findAll().some((child) => CfnResource.isCfnResource(child));
}
