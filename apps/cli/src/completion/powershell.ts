/** Completion for PowerShell 5.1 and later. File names are PowerShell's own where nothing is offered. */
export const powershell: string = `# PowerShell completion for img
Register-ArgumentCompleter -Native -CommandName img -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    $program = $words[0]
    $rest = @('__complete')
    # Before 7.3 an empty argument is not handed over.
    if ($words.Count -lt 2 -or $wordToComplete -eq '') { $rest += '--next' }
    $rest += @('--') + @($words | Select-Object -Skip 1)
    & $program @rest 2>$null | Where-Object { $_ -notlike ':*' } | ForEach-Object {
        $word, $help = $_ -split "\`t", 2
        if (-not $help) { $help = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $help)
    }
}
`
