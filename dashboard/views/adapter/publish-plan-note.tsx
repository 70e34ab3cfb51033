import type { Checked } from '../../api/publish-file.ts';
import { bytes } from '../../model/words.ts';

/** What publishing would do, before any of it is done. */
export function PublishPlanNote({ checked }: { checked: Checked }) {
  const { plan, file } = checked;
  const { packed, base } = file;
  const becomes = plan.exists
    ? `This is ${plan.name}@${plan.version}, which is there already.`
    : `It becomes ${plan.name}@${plan.version}, ${plan.stage ? 'staged' : 'live at once'}${
        plan.from === null || plan.stage ? '' : ` in the place of version ${plan.from}`
      }.`;
  return (
    <div class="note good" role="status">
      <p>
        <strong>{becomes}</strong> Rank {plan.rank}, {packed.modules.length} modules,{' '}
        {bytes(packed.bytes.length)}; for {base.id}
        {plan.parent !== null && `, on top of ${plan.parent}`}. {bytes(plan.bytes_to_send)} to send
        {plan.trial && ', then an origin tries it'}.
        {plan.instead_of !== null &&
          ` Until now ${plan.instead_of} answers requests by this name; from then on this does.`}
        {plan.notice !== undefined && ` ${plan.notice}`}
        {packed.warnings.map((warning) => ` Mind: ${warning}`)}
      </p>
    </div>
  );
}
