// Where the functions' binaries come from. They are built beforehand: nothing is compiled, downloaded or put into a
// container while an app is synthesized or deployed.
import { existsSync } from 'fs';
import * as path from 'path';
import { Architecture } from 'aws-cdk-lib/aws-lambda';
import { Construct } from 'constructs';
import { FUNCTIONS, FunctionKey } from './names';

/** Names another folder for the binaries; a relative one counts from where the app is started. */
export const BINARIES_CONTEXT = 'ecr-scan-verifier:binaries';

const ARCHITECTURES = [Architecture.ARM_64, Architecture.X86_64];

export function checkArchitecture(architecture: Architecture): void {
  if (!ARCHITECTURES.some((known) => known.name === architecture.name)) {
    throw new Error(
      `Unsupported architecture '${architecture.name}'. Only Architecture.ARM_64 and Architecture.X86_64 are supported.`,
    );
  }
}

/** The folder that holds `bootstrap`, for each function; refused when one is missing, before anything is created. */
export function findBinaries(scope: Construct, architecture: Architecture): Record<FunctionKey, string> {
  const folder = binariesFolder(scope);
  const missing = missingIn(folder, architecture);
  if (missing.length > 0) {
    throw new Error(
      `No ${architecture.name} binaries for ${missing.join(', ')} in ${folder}. ` +
        `${otherWay(folder, architecture)}build them there (<architecture>/<function>/bootstrap), ` +
        `or name another folder of that layout with the context key '${BINARIES_CONTEXT}'.`,
    );
  }
  return Object.fromEntries(FUNCTIONS.map((key) => [key, path.join(folder, architecture.name, key)])) as Record<FunctionKey, string>;
}

function missingIn(folder: string, architecture: Architecture): FunctionKey[] {
  return FUNCTIONS.filter((key) => !existsSync(path.join(folder, architecture.name, key, 'bootstrap')));
}

function otherWay(folder: string, architecture: Architecture): string {
  const present = ARCHITECTURES.filter((a) => a.name !== architecture.name && missingIn(folder, a).length === 0);
  const names = present.map((a) => (a.name === Architecture.ARM_64.name ? 'Architecture.ARM_64' : 'Architecture.X86_64'));
  return names.length > 0 ? `Set 'architecture' to ${names.join(' or ')}, whose binaries are there, ` : 'Either ';
}

function binariesFolder(scope: Construct): string {
  const named = scope.node.tryGetContext(BINARIES_CONTEXT);
  return named === undefined ? path.join(packageRoot(__dirname), 'binaries') : path.resolve(String(named));
}

// The compiled files lie at another depth in the package than in a development build; both lie below package.json.
function packageRoot(folder: string): string {
  return existsSync(path.join(folder, 'package.json')) ? folder : packageRoot(path.dirname(folder));
}
