// Which stacks the gate may ask for their state, to tell a rollback from a deployment.
import { Aws, Stack } from 'aws-cdk-lib';

export function stacksArn(stack: Stack, whose: 'own' | 'every'): string {
  // A nested stack rolls back with its parents, whose names it does not know: every stack, then.
  const name = whose === 'own' && !stack.nestedStackParent ? `${Aws.STACK_NAME}/*` : '*';
  return stack.formatArn({ service: 'cloudformation', resource: 'stack', resourceName: name });
}
