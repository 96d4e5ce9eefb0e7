// Texts that come from props, and texts that go to the gate.

/** As CloudFormation would write it on its way. Only a flag that is set is said. */
export function flagText(value?: boolean): string | undefined {
  return value ? 'true' : undefined;
}

export function isBlank(text: string): boolean {
  return text.trim() === '';
}
