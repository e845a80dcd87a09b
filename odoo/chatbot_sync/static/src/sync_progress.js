import { registry } from "@web/core/registry";
import { progressBarField, ProgressBarField } from "@web/views/fields/progress_bar/progress_bar_field";
import { onWillUnmount, useEffect } from "@odoo/owl";

const PAUSE = 2000; // milliseconds

/** A progress bar that moves by itself while a chatbot is being synced. */
export class SyncProgress extends ProgressBarField {
    setup() {
        super.setup();
        let timer;
        const look = async () => {
            const { record } = this.props;
            // A form with unsaved changes is not reloaded.
            if (!(await record.isDirty())) {
                await record.load();
            }
            wait();
        };
        const wait = () => {
            clearTimeout(timer);
            if (this.props.record.data.sync_requested) {
                timer = setTimeout(look, PAUSE);
            }
        };
        useEffect(wait);
        onWillUnmount(() => clearTimeout(timer));
    }
}

registry.category("fields").add("chatbot_sync_progress", {
    ...progressBarField,
    component: SyncProgress,
    fieldDependencies: [{ name: "sync_requested", type: "boolean" }],
});
