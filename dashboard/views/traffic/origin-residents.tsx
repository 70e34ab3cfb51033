import type { NamedFile } from '../../../protocol/admin-api/origins.ts';
import { filesByDigest, sharesOf, type Resident } from '../../model/resident-shares.ts';
import { hashOf } from '../../model/view.ts';
import { bytes, percent } from '../../model/words.ts';
import { Breakable } from '../../parts/breakable.tsx';
import { Table } from '../../parts/table.tsx';

/** What an origin holds, by name where the registry knows it, and whose it is. @param budget bytes for adapters. */
export function OriginResidents(props: {
  origin: string;
  residents: readonly Resident[];
  names: readonly NamedFile[];
  budget: number;
}) {
  const { origin, residents, names, budget } = props;
  const files = filesByDigest(names);
  return (
    <details>
      <summary>Resident adapters, and whose they are</summary>
      <Table
        label={`Memory of adapters of ${origin}, by tenant`}
        columns={['Tenant', { right: 'Adapters' }, { right: 'Size' }, { right: 'Of the budget' }]}
      >
        {sharesOf(residents, files).map((share) => (
          <tr key={share.owner}>
            <th scope="row" class="path">
              {share.owner ?? <span class="faint">not in the registry</span>}
            </th>
            <td class="right">{share.adapters}</td>
            <td class="right">{bytes(share.bytes)}</td>
            <td class="right">{percent(share.bytes / Math.max(1, budget))}</td>
          </tr>
        ))}
      </Table>
      <Table
        label={`Resident adapters of ${origin}`}
        columns={[
          'Name',
          'Tenant',
          'State',
          { right: 'Rank' },
          { right: 'Size' },
          { right: 'In use' },
          'Digest',
        ]}
      >
        {residents.map((adapter) => {
          const [file, ...more] = files.get(adapter.digest) ?? [];
          return (
            <tr key={adapter.digest}>
              <th scope="row" class="path">
                {file === undefined ? (
                  <span class="faint">not in the registry</span>
                ) : (
                  <>
                    <a href={hashOf({ at: 'adapters', name: file.name })}>
                      <Breakable text={file.name} />
                    </a>
                    @{file.version}
                    {more.length > 0 && (
                      <span class="under faint">and {more.length} more of the same file</span>
                    )}
                  </>
                )}
              </th>
              <td>{file?.owner ?? '–'}</td>
              <td class="nowrap">
                {adapter.state}
                {adapter.pinned && ', pinned'}
              </td>
              <td class="right">{adapter.rank}</td>
              <td class="right">{bytes(adapter.bytes)}</td>
              <td class="right">{adapter.references}</td>
              <td>
                <code title={adapter.digest}>{adapter.digest.slice(0, 12)}</code>
              </td>
            </tr>
          );
        })}
      </Table>
    </details>
  );
}
